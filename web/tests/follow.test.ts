import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { type Connection, type FollowParts, follow } from "../src/conversation/follow.ts";
import { ConversationLog } from "../src/conversation/log.ts";
import { ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.ts";
import type { Event } from "../src/gen/pointsman/session/v1/event_pb.ts";
import { message, TURN } from "./events.ts";

const ALL = Array.from({ length: 100 }, (_, index) => message(index + 1, String(index + 1), `m${index + 1}`));

/** A server that has `ALL`, and cuts each stream as `cut` says; and a page that watches it until it has everything. */
function world(cut: (stream: number, event: Event) => Error | "end" | undefined) {
  const log = new ConversationLog();
  const asked: bigint[] = [];
  const states: Connection["state"][] = [];
  const pauses: number[] = [];
  const reading = new AbortController();
  const parts: FollowParts = {
    async *watch(after) {
      asked.push(after);
      for (const event of ALL.slice(Number(after))) {
        const how = cut(asked.length, event);
        if (how === "end") return;
        if (how) throw how;
        yield event;
      }
      reading.abort();
    },
    cursor: () => log.cursor,
    take: (event) => log.apply(event),
    restart: (cursor) => {
      log.cursor = cursor;
    },
    onConnection: (connection) => states.push(connection.state),
    pause: (ms) => {
      pauses.push(ms);
      return Promise.resolve();
    },
  };
  return { log, asked, states, pauses, done: follow(parts, reading.signal) };
}

function texts(log: ConversationLog): string[] {
  return log.turns.get(TURN)?.rows.flatMap((row) => (row.kind === "text" ? [row.text] : [])) ?? [];
}

function refusal(code: Code, reason: string, metadata: Record<string, string> = {}): ConnectError {
  return new ConnectError(reason, code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, domain: "pointsman", metadata } },
  ]);
}

test("a stream that is cut again and again gives the same transcript, each event once", async () => {
  const cuts = new Set([7, 8, 30, 31, 77]);
  const { log, asked, done } = world((_, event) =>
    cuts.delete(Number(event.sequence)) ? new ConnectError("gone", Code.Unavailable) : undefined,
  );
  await done;
  expect(texts(log)).toEqual(ALL.map((_, index) => String(index + 1)));
  expect(asked).toEqual([0n, 6n, 7n, 29n, 30n, 76n]);
});

test("a stream that ends without an error is taken up again", async () => {
  const { asked, states, done } = world((stream, event) =>
    stream === 1 && event.sequence === 5n ? "end" : undefined,
  );
  await done;
  expect(asked).toEqual([0n, 4n]);
  expect(states).toEqual(["connecting", "live", "lost", "live"]);
});

test("it waits longer from failure to failure, and short again once the server has answered", async () => {
  const { pauses, done } = world((stream) =>
    stream <= 5 ? new ConnectError("down", Code.Unavailable) : undefined,
  );
  await done;
  expect(pauses).toHaveLength(5);
  for (const [index, pause] of pauses.entries()) {
    expect(pause).toBeGreaterThanOrEqual(400 * 2 ** index * 0.75);
    expect(pause).toBeLessThanOrEqual(400 * 2 ** index * 1.25);
  }
});

test.each([
  [Code.NotFound, "SESSION_NOT_FOUND"],
  [Code.Unauthenticated, "CREDENTIAL_REVOKED"],
  [Code.PermissionDenied, "SCOPE_MISSING"],
])("code %i ends it: trying again is no help", async (code, reason) => {
  const { asked, states, done } = world(() => refusal(code, reason));
  await done;
  expect(asked).toHaveLength(1);
  expect(states.at(-1)).toBe("ended");
});

test("a cursor that is too old starts over at the oldest event that is kept", async () => {
  const { asked, done } = world((stream) =>
    stream === 1 ? refusal(Code.OutOfRange, "CURSOR_EXPIRED", { first_sequence: "41" }) : undefined,
  );
  await done;
  expect(asked).toEqual([0n, 40n]);
});

test("a cursor ahead of the server, as after a restored backup, starts over", async () => {
  const { asked, done } = world((stream) =>
    stream === 1 ? refusal(Code.OutOfRange, "CURSOR_AHEAD", { last_sequence: "3" }) : undefined,
  );
  await done;
  expect(asked).toEqual([0n, 0n]);
});
