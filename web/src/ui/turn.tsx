import { useEffect, useState } from "preact/hooks";
import { failureFromEvent } from "../api/failure.ts";
import { cancel, fork } from "../conversation/actions.ts";
import type { Row, TurnView } from "../conversation/rows.ts";
import type { SessionStore } from "../conversation/store.ts";
import { type TurnFinished, TurnRoute, TurnState } from "../gen/pointsman/session/v1/turn_pb.ts";
import { notify } from "../state/notices.ts";
import { go, hrefOf } from "../state/route.ts";
import { copyText } from "../text/clipboard.ts";
import { count, dollars, exactTime, seconds, span } from "../text/format.ts";
import { visible, visibleLine } from "../text/visible.ts";
import { Icon } from "./icons.tsx";
import { Menu } from "./menu.tsx";
import { EditPrompt } from "./queue.tsx";
import { RowView } from "./row.tsx";

/** One line of the conversation: a turn's prompt, one of its rows, or its end. */
export type Entry =
  | { key: string; kind: "head" | "foot"; turn: TurnView }
  | { key: string; kind: "row"; row: Row };

/** Entries by what they show, so that the same content is the same object from frame to frame. */
const entryOfRow = new WeakMap<Row, Entry>();
const entriesOfTurn = new WeakMap<TurnView, { head: Entry; foot: Entry }>();

export function entriesOf(turns: TurnView[]): Entry[] {
  const entries: Entry[] = [];
  for (const turn of turns) {
    let ends = entriesOfTurn.get(turn);
    if (!ends) {
      ends = {
        head: { key: `${turn.name}:head`, kind: "head", turn },
        foot: { key: `${turn.name}:foot`, kind: "foot", turn },
      };
      entriesOfTurn.set(turn, ends);
    }
    entries.push(ends.head);
    // One that was cancelled while it waited has nothing to show but that.
    const rows = turn.finished && !turn.started ? [] : turn.rows;
    for (const row of rows) {
      let entry = entryOfRow.get(row);
      if (!entry) {
        entry = { key: `${turn.name}:${row.key}`, kind: "row", row };
        entryOfRow.set(row, entry);
      }
      entries.push(entry);
    }
    entries.push(ends.foot);
  }
  return entries;
}

export function EntryView({ entry, store }: { entry: Entry; store: SessionStore }) {
  if (entry.kind === "row") return <RowView row={entry.row} />;
  if (entry.kind === "head") return <TurnHead view={entry.turn} store={store} />;
  return <TurnFoot view={entry.turn} store={store} />;
}

/** Prompts longer than this are folded. */
const LONG_PROMPT = 1200;

function TurnHead({ view, store }: { view: TurnView; store: SessionStore }) {
  const turn = store.turns.value.get(view.name);
  const [all, setAll] = useState(false);
  const prompt = turn?.prompt ?? "";
  const long = prompt.length > LONG_PROMPT;
  const id = view.name.split("/").at(-1);
  const link = () => {
    const url = `${location.origin}${location.pathname}${hrefOf({ page: "session", session: store.name, turn: view.name })}`;
    void copyText(url).then((copied) =>
      copied
        ? notify("The link to this turn is copied.")
        : notify("The browser does not allow copying.", "error"),
    );
  };
  return (
    <article class="prompt" id={`turn-${id}`} aria-label="Prompt">
      <div class="prompt-text" dir="auto">
        {turn ? visible(long && !all ? prompt.slice(0, LONG_PROMPT) : prompt) : <span class="skeleton" />}
        {long && (
          <button type="button" class="more" onClick={() => setAll(!all)}>
            {all ? "Show less" : `Show all ${prompt.length.toLocaleString()} characters`}
          </button>
        )}
      </div>
      <Menu label="Turn">
        <button type="button" onClick={link}>
          <Icon name="copy" /> Copy link to this turn
        </button>
        <button type="button" onClick={() => go({ page: "session", session: store.name, panel: "changes" })}>
          <Icon name="changes" /> Show changed files
        </button>
        {view.finished && (
          <button type="button" onClick={() => fork(store.name, view.name)}>
            <Icon name="fork" /> Fork from here
          </button>
        )}
        <p class="menu-note">
          {exactTime(turn?.createTime)}
          <br />
          {turn?.model}
        </p>
      </Menu>
    </article>
  );
}

function TurnFoot({ view, store }: { view: TurnView; store: SessionStore }) {
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

const OUTCOMES: Partial<Record<TurnState, string>> = {
  [TurnState.FAILED]: "The turn failed",
  [TurnState.CANCELLED]: "Stopped",
  [TurnState.INTERRUPTED]: "The turn was cut off",
};

function Finished({ view, finished }: { view: TurnView; finished: TurnFinished }) {
  const usage = finished.usage;
  const written = usage?.outputTokens ?? view.usage.outputTokens;
  const read = usage
    ? usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens
    : view.usage.inputTokens;
  const facts = [
    view.started?.model,
    view.started?.route === TurnRoute.DIRECT && "direct",
    seconds(finished.duration) > 0 && span(seconds(finished.duration)),
    read + written > 0n && `${count(read)} in, ${count(written)} out`,
    dollars(usage?.costUsd ?? view.usage.costUsd),
  ].filter(Boolean);
  const silent =
    finished.outcome === TurnState.SUCCEEDED &&
    finished.result &&
    !view.rows.some((row) => row.kind === "text");
  return (
    <>
      {silent && (
        <div class="row">
          <div class="answer">{visible(finished.result)}</div>
        </div>
      )}
      {finished.structuredOutput && (
        <pre class="plain structured" tabIndex={0} role="region" aria-label="Structured output">
          <code>{visible(JSON.stringify(finished.structuredOutput, null, 2))}</code>
        </pre>
      )}
      {finished.outcome !== TurnState.SUCCEEDED && (
        <Outcome finished={finished} started={view.started !== undefined} />
      )}
      {facts.length > 0 && (
        <div class="turn-foot">
          {facts.map((fact) => (
            <span key={String(fact)}>{fact}</span>
          ))}
        </div>
      )}
    </>
  );
}

function Outcome({ finished, started }: { finished: TurnFinished; started: boolean }) {
  const failure = finished.error && failureFromEvent(finished.error);
  const calm = finished.outcome === TurnState.CANCELLED;
  return (
    <div class={`outcome ${calm ? "calm" : "bad"}`} role={calm ? undefined : "alert"}>
      <Icon name={calm ? "stop" : "warning"} />
      <div>
        <p class="outcome-title">
          {calm && !started ? "Cancelled before it ran" : OUTCOMES[finished.outcome]}
        </p>
        {failure && !calm && <p>{visible(failure.message)}</p>}
        {failure?.advice && !calm && <p class="outcome-advice">{failure.advice}</p>}
        {finished.toolRan && !calm && (
          <p class="outcome-advice">A tool had run, so files may have changed.</p>
        )}
        {failure?.reason && !calm && <code class="reason">{failure.reason}</code>}
      </div>
    </div>
  );
}
