import { useEffect, useState } from "preact/hooks";
import { cancel } from "../conversation/actions.ts";
import type { TurnView } from "../conversation/rows.ts";
import type { SessionStore } from "../conversation/store.ts";
import { count } from "../text/format.ts";
import { visibleLine } from "../text/visible.ts";
import { EditPrompt } from "./queue.tsx";
import { Finished } from "./turn-end.tsx";

/** Below a turn's rows: how it stands, or how it ended. */
export function TurnFoot({ view, store }: { view: TurnView; store: SessionStore }) {
  if (view.finished) return <Finished view={view} finished={view.finished} />;
  if (view.started) return <Running view={view} />;
  return <Waiting view={view} store={store} />;
}

function Running({ view }: { view: TurnView }) {
  const last = view.rows.at(-1);
  const doing =
    last?.kind === "tool" && !last.result
      ? last.permission && !last.permission.decided
        ? "Waiting for you"
        : `Running ${visibleLine(last.use.tool, 60)}`
      : last?.kind === "text" && last.live
        ? "Writing"
        : "Thinking";
  return (
    <div class="turn-foot running" role="status">
      <span class="pulse" />
      <span>{doing}</span>
      {view.startedAt !== undefined && <Elapsed since={view.startedAt} />}
      {view.usage.outputTokens > 0n && (
        <span>{count(view.usage.inputTokens + view.usage.outputTokens)} tokens</span>
      )}
    </div>
  );
}

function Elapsed({ since }: { since: number }) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return (
    <span class="elapsed" aria-hidden="true">
      {Math.max(0, Math.round((now - since) / 1000))} s
    </span>
  );
}

function Waiting({ view, store }: { view: TurnView; store: SessionStore }) {
  const [editing, setEditing] = useState(false);
  const turn = store.turns.value.get(view.name);
  return (
    <div class="turn-foot waiting" role="status">
      <span>
        {view.position > 1 ? `Waits: place ${view.position} in the account's queue` : "Waits for its turn"}
      </span>
      <button type="button" class="link" disabled={!turn} onClick={() => setEditing(true)}>
        Edit
      </button>
      <button type="button" class="link" onClick={() => cancel(view.name)}>
        Cancel
      </button>
      {editing && turn && <EditPrompt store={store} turn={turn} onClose={() => setEditing(false)} />}
    </div>
  );
}
