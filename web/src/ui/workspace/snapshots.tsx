import { useState } from "preact/hooks";
import { workspace } from "../../api/clients.ts";
import { newId } from "../../api/ids.ts";
import { createSession } from "../../conversation/actions.ts";
import type { SessionStore } from "../../conversation/store.ts";
import type { Snapshot } from "../../gen/pointsman/session/v1/workspace_service_pb.ts";
import { attempt, notify } from "../../state/notices.ts";
import { go } from "../../state/route.ts";
import { bytes, exactTime } from "../../text/format.ts";
import { visibleLine } from "../../text/visible.ts";
import { Ask, Broken, Confirm, Empty, Spinner } from "../controls.tsx";
import { Icon } from "../icons.tsx";
import { Menu } from "../menu.tsx";
import { useReading } from "../reading.ts";
import { MakeTemplate } from "./make-template.tsx";

/** The workspace as it was, kept by hand, and brought back. */
export function Snapshots({ store }: { store: SessionStore }) {
  const { value, failure, again } = useReading(
    (signal) => workspace.listSnapshots({ session: store.name, pageSize: 200 }, { signal }),
    [],
  );
  const [naming, setNaming] = useState(false);
  const [restoring, setRestoring] = useState<Snapshot>();
  const [deleting, setDeleting] = useState<Snapshot>();
  const [making, setMaking] = useState<{ source: string; title: string }>();
  const session = store.session.value;
  const running = store.frame.value.running !== undefined;
  const create = async (title: string) => {
    const done = await attempt("The snapshot was not made", () =>
      workspace.createSnapshot({ session: store.name, title: title.trim(), requestId: newId() }),
    );
    if (done) again();
  };
  const restore = async (snapshot: Snapshot) => {
    const done = await attempt("The snapshot was not restored", () =>
      workspace.restoreSnapshot({ name: snapshot.name }),
    );
    if (done) notify("The workspace is as it was.");
  };
  const remove = async (snapshot: Snapshot) => {
    const done = await attempt("The snapshot was not deleted", () =>
      workspace.deleteSnapshot({ name: snapshot.name }),
    );
    if (done) again();
  };
  const begin = async (snapshot: Snapshot) => {
    const made = await createSession({
      account: session?.account,
      title: visibleLine(snapshot.title, 80),
      model: session?.preferredModel,
      snapshot: snapshot.name,
    });
    if (made) go({ page: "session", session: made, panel: "files" });
  };
  return (
    <section class="snapshots" aria-label="Snapshots">
      <div class="files-bar">
        <span class="grow" />
        <button
          type="button"
          class="button"
          disabled={!session}
          onClick={() => setMaking({ source: store.name, title: session?.title ?? "" })}
        >
          <Icon name="template" /> Make a template
        </button>
        <button type="button" class="button" onClick={() => setNaming(true)}>
          <Icon name="snapshot" /> Take a snapshot
        </button>
      </div>
      {failure && !value && (
        <Broken
          title="The snapshots could not be read"
          text={`${failure.message} ${failure.advice}`}
          onRetry={again}
        />
      )}
      {!failure && !value && (
        <div class="files-reading">
          <Spinner label="Reading the snapshots" />
        </div>
      )}
      {value?.snapshots.length === 0 && (
        <Empty icon="snapshot" title="No snapshots">
          A snapshot keeps all files as they are. Take one before something risky, and come back to it if it
          goes wrong; or make a template, and new sessions begin with these files.
        </Empty>
      )}
      <ul class="snapshot-list">
        {value?.snapshots.map((snapshot) => (
          <li key={snapshot.name}>
            <span>
              <strong>{visibleLine(snapshot.title, 80) || "Untitled"}</strong>
              <small>
                {exactTime(snapshot.createTime)} · {bytes(snapshot.sizeBytes)}
              </small>
            </span>
            <button
              type="button"
              class="button"
              disabled={running}
              title={running ? "A turn is running" : undefined}
              onClick={() => setRestoring(snapshot)}
            >
              Restore
            </button>
            <Menu label={`More for ${visibleLine(snapshot.title, 40) || "this snapshot"}`}>
              <button type="button" onClick={() => void begin(snapshot)}>
                <Icon name="add" /> New session with these files
              </button>
              <button
                type="button"
                onClick={() => setMaking({ source: snapshot.name, title: snapshot.title })}
              >
                <Icon name="template" /> Make a template
              </button>
              <button type="button" class="danger-text" onClick={() => setDeleting(snapshot)}>
                <Icon name="trash" /> Delete
              </button>
            </Menu>
          </li>
        ))}
      </ul>
      {naming && (
        <Ask
          title="Take a snapshot"
          label="What is it for?"
          value=""
          action="Take it"
          onSave={create}
          onClose={() => setNaming(false)}
        />
      )}
      {making && session && (
        <MakeTemplate session={session} {...making} onClose={() => setMaking(undefined)} />
      )}
      {restoring && (
        <Confirm
          title="Restore this snapshot?"
          text="All files become what they were then. Changes since are gone, unless another snapshot has them."
          action="Restore"
          onConfirm={() => restore(restoring)}
          onClose={() => setRestoring(undefined)}
        />
      )}
      {deleting && (
        <Confirm
          title="Delete this snapshot?"
          text="Sessions and templates that were made from it keep their files."
          action="Delete"
          onConfirm={() => remove(deleting)}
          onClose={() => setDeleting(undefined)}
        />
      )}
    </section>
  );
}
