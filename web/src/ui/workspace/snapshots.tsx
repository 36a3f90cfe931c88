import { useState } from "preact/hooks";
import { workspace } from "../../api/clients.ts";
import { newId } from "../../api/ids.ts";
import type { SessionStore } from "../../conversation/store.ts";
import type { Snapshot } from "../../gen/pointsman/session/v1/workspace_service_pb.ts";
import { attempt, notify } from "../../state/notices.ts";
import { bytes, exactTime } from "../../text/format.ts";
import { visibleLine } from "../../text/visible.ts";
import { Ask, Broken, Confirm, Empty, Spinner } from "../controls.tsx";
import { Icon } from "../icons.tsx";
import { useReading } from "../reading.ts";

/** The workspace as it was, kept by hand, and brought back. */
export function Snapshots({ store }: { store: SessionStore }) {
  const { value, failure, again } = useReading(
    (signal) => workspace.listSnapshots({ session: store.name, pageSize: 200 }, { signal }),
    [],
  );
  const [naming, setNaming] = useState(false);
  const [restoring, setRestoring] = useState<Snapshot>();
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
  return (
    <section class="snapshots" aria-label="Snapshots">
      <div class="files-bar">
        <span class="hint">Keeps all files as they are now.</span>
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
          Take one before something risky, and come back to it if it goes wrong.
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
      {restoring && (
        <Confirm
          title="Restore this snapshot?"
          text="All files become what they were then. Changes since are gone, unless another snapshot has them."
          action="Restore"
          onConfirm={() => restore(restoring)}
          onClose={() => setRestoring(undefined)}
        />
      )}
    </section>
  );
}
