import { randomUUID } from "node:crypto";
import { timestampFromMs, timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { FileType, WorkspaceService } from "../../src/gen/pointsman/session/v1/workspace_service_pb.ts";
import { fail, find } from "./registry.ts";
import type { ScriptedFile } from "./types.ts";

/** Files, changes and snapshots of scripted sessions. */
export function serveWorkspaces(connect: ConnectRouter): void {
  connect.service(WorkspaceService, {
    listFiles: (request) => ({ files: entries(find(request.session).files, request.path) }),
    async *readFile(request) {
      const file = find(request.session).files.get(request.path);
      if (!file) throw fail(Code.NotFound, "FILE_NOT_FOUND", `There is no file ${request.path}.`);
      const from = Number(request.offset);
      const to = Number(request.limit) ? from + Number(request.limit) : file.data.length;
      yield {
        file: { path: request.path, type: FileType.FILE, sizeBytes: BigInt(file.data.length) },
        data: file.data.slice(from, to),
      };
    },
    writeFile(request) {
      find(request.session).files.set(request.path, { data: request.data, at: Date.now() });
      return { file: { path: request.path, type: FileType.FILE, sizeBytes: BigInt(request.data.length) } };
    },
    deleteFile(request) {
      const { files } = find(request.session);
      for (const path of [...files.keys()])
        if (path === request.path || path.startsWith(`${request.path}/`)) files.delete(path);
      return {};
    },
    diffWorkspace(request) {
      const changes = find(request.session).events.flatMap((event) =>
        event.kind.case === "fileChange" && (!request.sinceTurn || event.turn === request.sinceTurn)
          ? [event.kind.value]
          : [],
      );
      return { changes };
    },
    createSnapshot(request) {
      const session = find(request.session);
      const snapshot = {
        name: `${request.session}/snapshots/${randomUUID()}`,
        title: request.title,
        files: new Map(session.files),
        at: timestampNow(),
      };
      session.snapshots.unshift(snapshot);
      return {
        snapshot: { name: snapshot.name, title: snapshot.title, createTime: snapshot.at, sizeBytes: 1234n },
      };
    },
    listSnapshots: (request) => ({
      snapshots: find(request.session).snapshots.map(({ name, title, at }) => ({
        name,
        title,
        createTime: at,
        sizeBytes: 1234n,
      })),
    }),
    restoreSnapshot(request) {
      const session = find(request.name);
      const snapshot = session.snapshots.find((snapshot) => snapshot.name === request.name);
      session.files.clear();
      for (const [path, file] of snapshot?.files ?? []) session.files.set(path, file);
      return {};
    },
  });
}

/** What lies directly in a folder. */
function entries(files: ReadonlyMap<string, ScriptedFile>, folder: string) {
  const prefix = folder ? `${folder}/` : "";
  const inside = [...files].filter(([path]) => path.startsWith(prefix));
  const found = inside.map(([path, file]) => {
    const head = path.slice(prefix.length).split("/");
    const type = head.length === 1 ? FileType.FILE : FileType.DIRECTORY;
    const sizeBytes = BigInt(type === FileType.FILE ? file.data.length : 0);
    return { path: prefix + head[0], type, sizeBytes, updateTime: timestampFromMs(file.at) };
  });
  return [...new Map(found.map((each) => [each.path, each])).values()].sort((a, b) =>
    a.path.localeCompare(b.path),
  );
}
