import { Code } from "@connectrpc/connect";
import { NO_DEADLINE, sessions } from "../api/clients.ts";
import { failureOf } from "../api/failure.ts";
import type { Event } from "../gen/pointsman/session/v1/event_pb.ts";
import type { Turn } from "../gen/pointsman/session/v1/turn_pb.ts";

/** Turns per page when their prompts are fetched. */
const TURNS_PAGE = 200;

/** What is known of a session's turns, brought up to the server's record. */
export async function readTurns(
  session: string,
  known: ReadonlyMap<string, Turn>,
): Promise<Map<string, Turn>> {
  const turns = new Map(known);
  try {
    let pageToken = "";
    do {
      const page = await sessions.listTurns({ session, pageSize: TURNS_PAGE, pageToken });
      for (const turn of page.turns) turns.set(turn.name, turn);
      pageToken = page.nextPageToken;
    } while (pageToken);
  } catch (thrown) {
    // A page of very long prompts is more than one message holds: they are then read one by one, as they are met.
    if (failureOf(thrown).code !== Code.ResourceExhausted) throw thrown;
  }
  return turns;
}

/** A session's events after a cursor, then those to come. `onOpen` is called when the server has answered. */
export async function* watchEvents(
  session: string,
  afterSequence: bigint,
  signal: AbortSignal,
  onOpen: () => void,
): AsyncIterable<Event> {
  const options = { signal, timeoutMs: NO_DEADLINE, onHeader: onOpen };
  for await (const answer of sessions.watchEvents({ session, afterSequence }, options))
    if (answer.event) yield answer.event;
}
