import { useRef, useState } from "preact/hooks";
import { workspace } from "../../api/clients.ts";
import type { SessionStore } from "../../conversation/store.ts";
import { type FileInfo, FileType } from "../../gen/pointsman/session/v1/workspace_service_pb.ts";
import { attempt } from "../../state/notices.ts";
import { hrefOf } from "../../state/route.ts";
import { ago, bytes, exactTime } from "../../text/format.ts";
import { visibleLine } from "../../text/visible.ts";
import { Broken, Confirm, Empty, IconButton, Spinner } from "../controls.tsx";
import { Icon } from "../icons.tsx";
import { useReading } from "../reading.ts";
import { download, upload } from "./transfer.ts";

/** Entries of a folder that are read at most; more than anybody looks through. */
const MOST_ENTRIES = 5000;

async function readFolder(session: string, path: string, signal: AbortSignal): Promise<FileInfo[]> {
  const found: FileInfo[] = [];
  let pageToken = "";
  do {
    const page = await workspace.listFiles({ session, path, pageSize: 1000, pageToken }, { signal });
    found.push(...page.files);
    pageToken = page.nextPageToken;
  } while (pageToken && found.length < MOST_ENTRIES);
  const folderFirst = (file: FileInfo) => (file.type === FileType.DIRECTORY ? 0 : 1);
  return found.sort((a, b) => folderFirst(a) - folderFirst(b) || a.path.localeCompare(b.path));
}

/** How many turns have changed files so far: when it grows, the folders are read again. */
function useChangesSoFar(store: SessionStore): number {
  const { conversation } = store.frame.value;
  return conversation.reduce((sum, turn) => sum + (turn.finished ? 1 : 0), 0);
}

export function Files({ store }: { store: SessionStore }) {
  const [dropping, setDropping] = useState(false);
  const [uploading, setUploading] = useState(false);
  const [round, setRound] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const changes = useChangesSoFar(store);

  const take = async (files: FileList | null | undefined) => {
    if (!files?.length) return;
    setUploading(true);
    if ((await upload(store.name, "", files)) > 0) setRound(round + 1);
    setUploading(false);
  };
  const onDrop = (event: DragEvent) => {
    event.preventDefault();
    setDropping(false);
    void take(event.dataTransfer?.files);
  };
  return (
    <section
      class={`files ${dropping ? "dropping" : ""}`}
      aria-label="Files"
      onDragOver={(event) => {
        event.preventDefault();
        setDropping(true);
      }}
      onDragLeave={() => setDropping(false)}
      onDrop={onDrop}
    >
      <div class="files-bar">
        <span class="hint">Drop files here to upload them.</span>
        <IconButton icon="retry" label="Read the files again" onClick={() => setRound(round + 1)} />
        <button type="button" class="button" disabled={uploading} onClick={() => input.current?.click()}>
          {uploading ? <Spinner label="Uploading" /> : <Icon name="upload" />} Upload
        </button>
        <input
          ref={input}
          type="file"
          multiple
          class="visually-hidden"
          tabIndex={-1}
          aria-label="Files to upload"
          onChange={(event) => {
            void take(event.currentTarget.files);
            event.currentTarget.value = "";
          }}
        />
      </div>
      <Folder store={store} path="" fresh={`${round}:${changes}`} onChanged={() => setRound(round + 1)} />
    </section>
  );
}

function Folder(props: { store: SessionStore; path: string; fresh: string; onChanged: () => void }) {
  const { value, failure, again } = useReading(
    (signal) => readFolder(props.store.name, props.path, signal),
    [props.path, props.fresh],
  );
  if (failure && !value)
    return (
      <Broken
        title="The folder could not be read"
        text={`${failure.message} ${failure.advice}`}
        onRetry={again}
      />
    );
  if (!value)
    return (
      <div class="files-reading">
        <Spinner label="Reading the folder" />
      </div>
    );
  if (value.length === 0)
    return props.path ? (
      <p class="hint indent">Empty</p>
    ) : (
      <Empty icon="folder" title="No files yet">
        What the agent writes appears here, and so does what you drop.
      </Empty>
    );
  return (
    <ul class="tree">
      {value.map((file) => (
        <FileEntry key={file.path} file={file} {...props} />
      ))}
      {value.length >= MOST_ENTRIES && (
        <li class="hint">There are more; only the first {MOST_ENTRIES.toLocaleString()} are shown.</li>
      )}
    </ul>
  );
}

function FileEntry({
  file,
  store,
  fresh,
  onChanged,
}: {
  file: FileInfo;
  store: SessionStore;
  path: string;
  fresh: string;
  onChanged: () => void;
}) {
  const [open, setOpen] = useState(false);
  const [deleting, setDeleting] = useState(false);
  const name = visibleLine(file.path.split("/").at(-1) ?? file.path);
  const remove = async () => {
    const done = await attempt(`${name} was not deleted`, () =>
      workspace.deleteFile({ session: store.name, path: file.path }),
    );
    if (done) onChanged();
  };
  const isFolder = file.type === FileType.DIRECTORY;
  return (
    <li>
      <div class="tree-line">
        {isFolder ? (
          <button type="button" class="tree-name" aria-expanded={open} onClick={() => setOpen(!open)}>
            <Icon name="chevron" size={12} class={`icon turn-chevron ${open ? "open" : ""}`} />
            <Icon name="folder" size={14} /> {name}
          </button>
        ) : file.type === FileType.FILE ? (
          <a
            class="tree-name"
            href={hrefOf({ page: "session", session: store.name, panel: "files", path: file.path })}
            title={exactTime(file.updateTime)}
          >
            <Icon name="file" size={14} /> {name}
          </a>
        ) : (
          <span class="tree-name faint" title="A link or a device; it cannot be read">
            <Icon name="file" size={14} /> {name}
          </span>
        )}
        <span class="tree-size">{isFolder ? "" : `${bytes(file.sizeBytes)} · ${ago(file.updateTime)}`}</span>
        <span class="tree-actions">
          {file.type === FileType.FILE && (
            <IconButton
              icon="download"
              label={`Download ${name}`}
              onClick={() => download(store.name, file.path, Number(file.sizeBytes))}
            />
          )}
          <IconButton icon="trash" label={`Delete ${name}`} onClick={() => setDeleting(true)} />
        </span>
      </div>
      {open && isFolder && (
        <div class="tree-children">
          <Folder store={store} path={file.path} fresh={fresh} onChanged={onChanged} />
        </div>
      )}
      {deleting && (
        <Confirm
          title={`Delete ${name}?`}
          text={
            isFolder
              ? "The folder and all that is in it are gone for good, unless a snapshot has them."
              : "The file is gone for good, unless a snapshot has it."
          }
          action="Delete"
          onConfirm={remove}
          onClose={() => setDeleting(false)}
        />
      )}
    </li>
  );
}
