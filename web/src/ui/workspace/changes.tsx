import { useState } from "preact/hooks";
import { workspace } from "../../api/clients.ts";
import type { SessionStore } from "../../conversation/store.ts";
import { visibleLine } from "../../text/visible.ts";
import { Broken, Empty, Spinner } from "../controls.tsx";
import { DiffView } from "../diff.tsx";
import { useReading } from "../reading.ts";

/** Changes that are open at first. */
const OPEN = 5;

/** What changed in the workspace since a turn began. */
export function Changes({ store }: { store: SessionStore }) {
  const { conversation } = store.frame.value;
  const [since, setSince] = useState("");
  const finished = conversation.filter((turn) => turn.finished).length;
  const { value, failure, again } = useReading(
    (signal) => workspace.diffWorkspace({ session: store.name, sinceTurn: since }, { signal }),
    [since, finished],
  );
  const turns = store.turns.value;
  return (
    <section class="changes" aria-label="Changes">
      <label class="field inline">
        <span>Since</span>
        <select value={since} onChange={(event) => setSince(event.currentTarget.value)}>
          <option value="">the newest turn</option>
          {[...conversation].reverse().map((turn) => (
            <option key={turn.name} value={turn.name}>
              {visibleLine(turns.get(turn.name)?.prompt ?? "", 50) || "a turn"}
            </option>
          ))}
        </select>
      </label>
      {failure && !value && (
        <Broken
          title="The changes could not be read"
          text={`${failure.message} ${failure.advice}`}
          onRetry={again}
        />
      )}
      {!failure && !value && (
        <div class="files-reading">
          <Spinner label="Comparing" />
        </div>
      )}
      {value?.changes.length === 0 && (
        <Empty icon="changes" title="Nothing changed">
          No file is different from when that turn began.
        </Empty>
      )}
      {value?.changes.map((change, index) => (
        <DiffView key={change.path} change={change} open={index < OPEN} />
      ))}
      {value?.truncated && <p class="diff-note">There are more changes than are shown.</p>}
    </section>
  );
}
