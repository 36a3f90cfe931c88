import type { Row, TurnView } from "./rows.ts";

/** One line of the conversation: a turn's prompt, one of its rows, or its end. */
export type Entry =
  | { key: string; kind: "head" | "foot"; turn: TurnView }
  | { key: string; kind: "row"; row: Row };

/** Entries by what they show, so that the same content is the same object from frame to frame. */
const entryOfRow = new WeakMap<Row, Entry>();
const entriesOfTurn = new WeakMap<TurnView, { head: Entry; foot: Entry }>();

/** The lines of the turns, in order. */
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
    const rows = turn.finished && !turn.started ? [] : withoutError(turn);
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

/** Without a last text that only repeats why the turn failed: that is said below it, with what to do. */
function withoutError({ rows, finished }: TurnView): Row[] {
  const last = rows.at(-1);
  const message = finished?.error?.message;
  return message && last?.kind === "text" && last.text.includes(message) ? rows.slice(0, -1) : rows;
}
