import { useEffect, useMemo } from "preact/hooks";
import type { SessionStore } from "../../conversation/store.ts";
import { hrefOf } from "../../state/route.ts";
import { bytes } from "../../text/format.ts";
import { visibleLine } from "../../text/visible.ts";
import { PlainText } from "../code.tsx";
import { Broken, Empty, Spinner } from "../controls.tsx";
import { Icon } from "../icons.tsx";
import { useReading } from "../reading.ts";
import { download, readFile } from "./transfer.ts";

/** Bytes of a file that are shown; all of it can be downloaded. */
const PREVIEW_BYTES = 4 * 1024 * 1024;

/** Shown as images, by the name's ending. In an `img`, not even an SVG can run a script. */
const IMAGES: Record<string, string> = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  avif: "image/avif",
  svg: "image/svg+xml",
  ico: "image/x-icon",
  bmp: "image/bmp",
};

export function Preview({ store, path }: { store: SessionStore; path: string }) {
  const edits = store.frame.value.conversation.filter((turn) => turn.finished).length;
  const { value, failure, again } = useReading(
    (signal) => readFile(store.name, path, signal, PREVIEW_BYTES),
    [path, edits],
  );
  const folders = path.split("/");
  const name = folders.pop() ?? path;
  return (
    <section class="preview" aria-label={`File ${visibleLine(path)}`}>
      <header class="preview-head">
        <a
          class="icon-button"
          href={hrefOf({ page: "session", session: store.name, panel: "files" })}
          aria-label="Back to the files"
          title="Back to the files"
        >
          <Icon name="chevron" class="icon flipped" />
        </a>
        <h2 title={visibleLine(path)}>
          {folders.length > 0 && <span class="faint">{visibleLine(folders.join("/"))}/</span>}
          {visibleLine(name)}
        </h2>
        {value && <span class="hint">{bytes(value.total)}</span>}
        {value && (
          <button
            type="button"
            class="icon-button"
            aria-label="Download"
            title="Download"
            onClick={() => download(store.name, path, value.total)}
          >
            <Icon name="download" />
          </button>
        )}
      </header>
      {failure && !value && (
        <Broken
          title="The file cannot be shown"
          text={`${failure.message} ${failure.advice}`}
          onRetry={again}
        />
      )}
      {!failure && !value && (
        <div class="files-reading">
          <Spinner label="Reading the file" />
        </div>
      )}
      {value && <Content path={path} data={value.data} total={value.total} />}
    </section>
  );
}

function Content({ path, data, total }: { path: string; data: Uint8Array<ArrayBuffer>; total: number }) {
  const image = IMAGES[path.split(".").at(-1)?.toLowerCase() ?? ""];
  const text = useMemo(() => (image ? undefined : decode(data)), [data, image]);
  if (image && data.length === total) return <Picture data={data} type={image} name={path} />;
  if (total === 0) return <Empty icon="file" title="The file is empty" />;
  if (text === undefined)
    return (
      <Empty icon="file" title="Not a text">
        This file cannot be shown here. Download it to open it.
      </Empty>
    );
  return (
    <>
      {data.length < total && (
        <p class="diff-note">
          The first {bytes(data.length)} of {bytes(total)}. Download it for the rest.
        </p>
      )}
      <PlainText text={text} label={`Contents of ${visibleLine(path)}`} language={languageOf(path)} fill />
    </>
  );
}

function Picture({ data, type, name }: { data: Uint8Array<ArrayBuffer>; type: string; name: string }) {
  const url = useMemo(() => URL.createObjectURL(new Blob([data], { type })), [data, type]);
  useEffect(() => () => URL.revokeObjectURL(url), [url]);
  return (
    <div class="picture">
      <img src={url} alt={visibleLine(name)} />
    </div>
  );
}

/** What a file is written in, by its name: `py`, `makefile`; what is no language is plain text. */
function languageOf(path: string): string {
  return path.split("/").at(-1)?.split(".").at(-1) ?? "";
}

/** The text, or undefined when the bytes are none. A character cut off at the end is let go. */
function decode(data: Uint8Array<ArrayBuffer>): string | undefined {
  if (data.subarray(0, 8192).includes(0)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data, { stream: true });
  } catch {
    return undefined;
  }
}
