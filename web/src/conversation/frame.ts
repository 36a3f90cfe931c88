import { type Turn, TurnState } from "../gen/pointsman/session/v1/turn_pb.ts";
import type { ConversationLog } from "./log.ts";
import type { Permission, TurnView } from "./rows.ts";

/** What the page shows of a session's log, one frame at a time. */
export interface Frame {
  /** Turns that have started or ended, in the order in which they did. */
  conversation: TurnView[];
  /** Turns that wait, the next one first. */
  queue: TurnView[];
  /** Permission requests that wait. */
  pending: Permission[];
  running: TurnView | undefined;
}

export const EMPTY: Frame = { conversation: [], queue: [], pending: [], running: undefined };

/** Later than anything that has happened: where a turn stands that the log does not know yet. */
const AT_THE_END = 1n << 62n;

/** The log as it is now, with the turns that only the server's record tells of. */
export function frameOf(log: ConversationLog, records: ReadonlyMap<string, Turn>): Frame {
  const views = [...log.turns.values()];
  const waits = (view: TurnView) => !view.started && !view.finished;
  return {
    conversation: views.filter((view) => !waits(view)).sort((a, b) => Number(a.anchor - b.anchor)),
    queue: [...views.filter(waits), ...unseen(log, records)].sort(
      (a, b) => a.position - b.position || Number(a.anchor - b.anchor),
    ),
    pending: log.pending,
    running: views.find((view) => view.started && !view.finished),
  };
}

/** Queued turns that a call answered with before the stream told of them. */
function unseen(log: ConversationLog, records: ReadonlyMap<string, Turn>): TurnView[] {
  return [...records.values()]
    .filter((turn) => turn.state === TurnState.QUEUED && !log.turns.has(turn.name))
    .map((turn) => ({
      name: turn.name,
      position: turn.position,
      edits: 0,
      usage: { inputTokens: 0n, outputTokens: 0n, costUsd: 0, calls: 0 },
      rows: [],
      anchor: AT_THE_END,
    }));
}
