import { Code } from "@connectrpc/connect";
import { type Failure, failureOf, isFinal } from "../api/failure.ts";
import type { Event } from "../gen/pointsman/session/v1/event_pb.ts";
import { SequenceGap } from "./log.ts";

/** How the page stands with the server. `lost` tries again by itself; `ended` does not: `failure` says why. */
export type Connection =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "lost"; failure: Failure; attempt: number }
  | { state: "ended"; failure: Failure };

/** What following needs from the outside; tests give their own. */
export interface FollowParts {
  /** The events after a cursor, then those to come. `onOpen` is called when the server has answered. */
  watch(afterSequence: bigint, signal: AbortSignal, onOpen: () => void): AsyncIterable<Event>;
  /** Highest sequence taken. */
  cursor(): bigint;
  take(event: Event): void;
  /** The cursor is none that the server has: forget everything, and start after `cursor`. */
  restart(cursor: bigint): void;
  onConnection(connection: Connection): void;
  /** Resolves after `ms`, or earlier when there is a reason to hope, such as the network being back. */
  pause(ms: number, signal: AbortSignal): Promise<void>;
}

const FIRST_BACKOFF_MS = 400;
const MAX_BACKOFF_MS = 10_000;
/** The server sends `keep_alive` after 5 quiet seconds; a stream that is silent for this long is broken. */
const SILENCE_MS = 12_000;

/** Follows a session until `signal` aborts or the server says that there is nothing to follow. */
export async function follow(parts: FollowParts, signal: AbortSignal): Promise<void> {
  let attempt = 0;
  parts.onConnection({ state: "connecting" });
  while (!signal.aborted) {
    const { opened, failure } = await followOnce(parts, signal);
    if (signal.aborted) return;
    const next = whatNext(failure);
    if (next === "restart") parts.restart(restartCursor(failure));
    if (next === "end" && failure) {
      parts.onConnection({ state: "ended", failure });
      return;
    }
    attempt = opened ? 1 : attempt + 1;
    parts.onConnection({ state: "lost", attempt, failure: failure ?? CUT });
    await parts.pause(backoff(attempt, failure?.retryAfter), signal);
  }
}

/** Follows one stream to its end: whether the server answered at all, and what went wrong if anything did. */
async function followOnce(
  parts: FollowParts,
  signal: AbortSignal,
): Promise<{ opened: boolean; failure: Failure | undefined }> {
  const stream = new AbortController();
  const stop = () => stream.abort();
  signal.addEventListener("abort", stop, { once: true });
  const silence = new Silence(stop);
  let opened = false;
  const alive = () => {
    if (opened) return;
    opened = true;
    parts.onConnection({ state: "live" });
  };
  try {
    for await (const event of parts.watch(parts.cursor(), stream.signal, alive)) {
      alive();
      silence.reset();
      parts.take(event);
    }
  } catch (thrown) {
    return { opened, failure: thrown instanceof SequenceGap ? undefined : failureOf(thrown) };
  } finally {
    silence.end();
    stream.abort();
    signal.removeEventListener("abort", stop);
  }
  return { opened, failure: undefined };
}

/** A stream that ended without an error: the server closed it, or went away in the middle. */
const CUT: Failure = {
  reason: "",
  code: Code.Unavailable,
  message: "The connection was closed.",
  advice: "This page comes back by itself.",
  metadata: {},
};

function whatNext(failure: Failure | undefined): "retry" | "restart" | "end" {
  if (!failure) return "retry";
  if (failure.reason === "CURSOR_EXPIRED" || failure.reason === "CURSOR_AHEAD") return "restart";
  if (isFinal(failure.code) || failure.code === Code.Unauthenticated) return "end";
  return "retry";
}

function restartCursor(failure: Failure | undefined): bigint {
  const first = failure?.metadata.first_sequence;
  return first && /^\d+$/.test(first) ? BigInt(first) - 1n : 0n;
}

function backoff(attempt: number, retryAfter = 0): number {
  const grown = Math.min(FIRST_BACKOFF_MS * 2 ** (attempt - 1), MAX_BACKOFF_MS);
  return Math.max(grown * (0.75 + Math.random() * 0.5), retryAfter * 1000);
}

/** Calls back when nothing was heard for too long. */
class Silence {
  private timer: ReturnType<typeof setTimeout>;
  private readonly onSilence: () => void;

  constructor(onSilence: () => void) {
    this.onSilence = onSilence;
    this.timer = setTimeout(onSilence, SILENCE_MS);
  }

  reset(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.onSilence, SILENCE_MS);
  }

  end(): void {
    clearTimeout(this.timer);
  }
}
