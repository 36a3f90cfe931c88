import { NO_DEADLINE, workspace } from "../../api/clients.ts";
import { newId } from "../../api/ids.ts";
import { attempt, notify } from "../../state/notices.ts";
import { bytes } from "../../text/format.ts";
import { visibleLine } from "../../text/visible.ts";

/** The server takes files up to this size in one call. */
export const UPLOAD_BYTES = 3 * 1024 * 1024;

/** A browser holds a download in memory until it is written; more than this is for `grpcurl` or the REST API. */
export const DOWNLOAD_BYTES = 512 * 1024 * 1024;

/** Reads the first `limit` bytes of a file. `total` is its whole size. */
export async function readFile(
  session: string,
  path: string,
  signal: AbortSignal,
  limit: number,
): Promise<{ data: Uint8Array<ArrayBuffer>; total: number }> {
  const { pieces, total } = await readPieces(session, path, limit, signal);
  const size = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const data = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    data.set(piece, at);
    at += piece.length;
  }
  return { data, total: Math.max(total, size) };
}

async function readPieces(
  session: string,
  path: string,
  limit: number,
  signal?: AbortSignal,
): Promise<{ pieces: Uint8Array<ArrayBuffer>[]; total: number }> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  for await (const piece of workspace.readFile(
    { session, path, limit: BigInt(limit) },
    { signal, timeoutMs: NO_DEADLINE },
  )) {
    if (piece.file) total = Number(piece.file.sizeBytes);
    pieces.push(piece.data as Uint8Array<ArrayBuffer>);
  }
  return { pieces, total };
}

/** Downloads a file of `size` bytes. */
export async function download(session: string, path: string, size: number): Promise<void> {
  if (size > DOWNLOAD_BYTES) {
    notify(
      `The file has ${bytes(size)}.`,
      "error",
      `Up to ${bytes(DOWNLOAD_BYTES)} can be downloaded here; use ReadFile for more.`,
    );
    return;
  }
  const file = await attempt("The file could not be read", () => readPieces(session, path, DOWNLOAD_BYTES));
  if (!file) return;
  const url = URL.createObjectURL(new Blob(file.pieces, { type: "application/octet-stream" }));
  const link = document.createElement("a");
  link.href = url;
  // As it is spelled on the page: a name must not show another ending in the browser's list than it has.
  link.download = visibleLine(path.split("/").at(-1) ?? "", 200) || "file";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Uploads files into a folder, one after another; tells of each that does not fit. Returns how many arrived. */
export async function upload(session: string, folder: string, files: Iterable<File>): Promise<number> {
  let done = 0;
  for (const file of files) {
    if (file.size > UPLOAD_BYTES) {
      notify(
        `${file.name} has ${bytes(file.size)}.`,
        "error",
        `Files up to ${bytes(UPLOAD_BYTES)} can be uploaded; split or compress it.`,
      );
      continue;
    }
    const path = folder ? `${folder}/${file.name}` : file.name;
    const answer = await attempt(`${file.name} was not uploaded`, async () =>
      workspace.writeFile({
        session,
        path,
        data: new Uint8Array(await file.arrayBuffer()),
        requestId: newId(),
      }),
    );
    if (answer) done += 1;
  }
  if (done > 0) notify(done === 1 ? "The file is in the workspace." : `${done} files are in the workspace.`);
  return done;
}
