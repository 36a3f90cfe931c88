import { Code } from "@connectrpc/connect";
import { batch, signal } from "@preact/signals";
import { NO_DEADLINE, sessions as sessionClient } from "../api/clients.ts";
import { type Failure, failureOf } from "../api/failure.ts";
import type { Event } from "../gen/pointsman/session/v1/event_pb.ts";
import type { Session } from "../gen/pointsman/session/v1/session_service_pb.ts";
import { type Turn, TurnState } from "../gen/pointsman/session/v1/turn_pb.ts";
import { signedOut } from "../state/notices.ts";
import { putSession } from "../state/sessions.ts";
import { type Connection, follow } from "./follow.ts";
import { ConversationLog } from "./log.ts";
import type { Permission, TurnView } from "./rows.ts";

/** A page shows at most one frame of news per this many milliseconds; what comes between is taken together. */
const FRAME_MS = 33;
/** Turns per page when their prompts are fetched. */
const TURNS_PAGE = 200;
/** Turns end and begin in pairs: one reading does for both. */
const REFRESH_DELAY_MS = 250;
/** How long a hidden tab in which nothing runs keeps its stream: browsers allow few connections per server. */
const HIDDEN_GRACE_MS = 60_000;

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

const EMPTY: Frame = { conversation: [], queue: [], pending: [], running: undefined };

/** One session as this tab sees it: fed by its event stream, one way, and kept in step with the server's record. */
export class SessionStore {
  readonly name: string;
  readonly session = signal<Session | undefined>(undefined);
  readonly frame = signal<Frame>(EMPTY);
  readonly connection = signal<Connection>({ state: "connecting" });
  /** The log has been read up to where it was when it was opened. */
  readonly loaded = signal(false);
  /** Why the session cannot be shown. */
  readonly failure = signal<Failure | undefined>(undefined);
  /** Events before this one are no longer kept by the server; 1 when all are. */
  readonly firstKept = signal(1n);
  /** The server's record of turns, by name: prompts, options and models. */
  readonly turns = signal<ReadonlyMap<string, Turn>>(new Map());

  private log = new ConversationLog();
  private target = 0n;
  private following: AbortController | undefined;
  private scheduled = false;
  private refreshing: ReturnType<typeof setTimeout> | undefined;
  private readonly fetching = new Set<string>();

  constructor(name: string) {
    this.name = name;
  }

  /** Reads the session and follows it until `close`; can be opened again, and then goes on from its cursor. */
  open(): void {
    if (this.following) return;
    const following = new AbortController();
    this.following = following;
    void this.run(following.signal);
    document.addEventListener("visibilitychange", this.onVisibility);
  }

  close(): void {
    this.following?.abort();
    this.following = undefined;
    document.removeEventListener("visibilitychange", this.onVisibility);
  }

  /** Reads the server's record of the session again. */
  async refresh(): Promise<void> {
    const answer = await sessionClient.getSession({ name: this.name });
    if (answer.session) this.session.value = answer.session;
  }

  /** Puts a turn's record in, such as the one that a call has just answered with. */
  putTurn(turn: Turn): void {
    this.turns.value = new Map(this.turns.value).set(turn.name, turn);
    this.schedule();
  }

  private async run(signal: AbortSignal): Promise<void> {
    if (!(await this.readRecord(signal))) return;
    await follow(
      {
        watch: (afterSequence, streamSignal, onOpen) => this.watch(afterSequence, streamSignal, onOpen),
        cursor: () => this.log.cursor,
        take: (event) => this.take(event),
        restart: (cursor) => this.restart(cursor),
        onConnection: (connection) => this.onConnection(connection),
        pause: pauseUntilHope,
      },
      signal,
    );
  }

  /** Reads session and turns, again and again while the server does not answer. False: there is nothing to follow. */
  private async readRecord(signal: AbortSignal): Promise<boolean> {
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await this.refresh();
        const session = this.session.value;
        if (session) {
          this.target = session.lastSequence;
          if (session.firstSequence > 1n && this.log.cursor < session.firstSequence - 1n)
            this.restart(session.firstSequence - 1n);
        }
        await this.readTurns();
        this.loaded.value = this.loaded.value || this.log.cursor >= this.target;
        this.failure.value = undefined;
        return true;
      } catch (thrown) {
        const failure = failureOf(thrown);
        if (signedOut(failure)) return false;
        if (
          [Code.NotFound, Code.PermissionDenied, Code.InvalidArgument, Code.Unimplemented].includes(
            failure.code,
          )
        ) {
          this.failure.value = failure;
          return false;
        }
        this.connection.value = { state: "lost", attempt, failure };
        await pauseUntilHope(Math.min(500 * 2 ** attempt, 10_000), signal);
      }
    }
    return false;
  }

  private async readTurns(): Promise<void> {
    const turns = new Map(this.turns.value);
    try {
      let pageToken = "";
      do {
        const page = await sessionClient.listTurns({ session: this.name, pageSize: TURNS_PAGE, pageToken });
        for (const turn of page.turns) turns.set(turn.name, turn);
        pageToken = page.nextPageToken;
      } while (pageToken);
    } catch (thrown) {
      // A page of very long prompts is more than one message holds: they are then read one by one, as they are met.
      if (failureOf(thrown).code !== Code.ResourceExhausted) throw thrown;
    }
    this.turns.value = turns;
  }

  private async *watch(afterSequence: bigint, signal: AbortSignal, onOpen: () => void): AsyncIterable<Event> {
    const stream = sessionClient.watchEvents(
      { session: this.name, afterSequence },
      { signal, timeoutMs: NO_DEADLINE, onHeader: onOpen },
    );
    for await (const answer of stream) if (answer.event) yield answer.event;
  }

  private take(event: Event): void {
    this.log.apply(event);
    switch (event.kind.case) {
      case "turnQueued":
        if (!this.turns.value.has(event.turn)) void this.fetchTurn(event.turn);
        break;
      case "turnUpdated":
        void this.fetchTurn(event.turn);
        break;
      case "turnStarted":
      case "turnFinished":
        this.refreshSoon();
        break;
    }
    this.schedule();
  }

  /** Reads a turn's record; on failure the turn shows without its prompt until the next reading. */
  private async fetchTurn(name: string): Promise<void> {
    if (this.fetching.has(name) || (!this.loaded.value && this.turns.value.has(name))) return;
    this.fetching.add(name);
    try {
      const answer = await sessionClient.getTurn({ name });
      if (answer.turn) this.putTurn(answer.turn);
    } catch {
      // A turn that is gone with its session; the stream tells that story.
    } finally {
      this.fetching.delete(name);
    }
  }

  /** Reads the session's record a moment later, once for all that happens until then. */
  private refreshSoon(): void {
    if (!this.loaded.value || this.refreshing) return;
    this.refreshing = setTimeout(() => {
      this.refreshing = undefined;
      this.refresh().then(
        () => this.session.value && putSession(this.session.value),
        () => undefined, // The stream is what tells of the connection.
      );
    }, REFRESH_DELAY_MS);
  }

  private restart(cursor: bigint): void {
    this.log = new ConversationLog();
    this.log.cursor = cursor;
    this.firstKept.value = cursor + 1n;
    this.schedule();
  }

  private onConnection(connection: Connection): void {
    const before = this.connection.value;
    batch(() => {
      this.connection.value = connection;
      if (connection.state !== "ended") return;
      if (!signedOut(connection.failure)) this.failure.value = connection.failure;
    });
    // A quiet session's stream says nothing at first: ask in the meantime whether the server is back.
    if (before.state === "lost" && connection.state === "live") void this.catchUp();
  }

  private async catchUp(): Promise<void> {
    try {
      await this.refresh();
      await this.readTurns();
    } catch {
      // The stream is what tells of the connection.
    }
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setTimeout(() => this.show(), FRAME_MS);
  }

  private show(): void {
    this.scheduled = false;
    this.log.settle();
    const views = [...this.log.turns.values()];
    const waits = (view: TurnView) => !view.started && !view.finished;
    batch(() => {
      this.frame.value = {
        conversation: views.filter((view) => !waits(view)).sort((a, b) => Number(a.anchor - b.anchor)),
        queue: [...views.filter(waits), ...this.unseen()].sort(
          (a, b) => a.position - b.position || Number(a.anchor - b.anchor),
        ),
        pending: this.log.pending,
        running: views.find((view) => view.started && !view.finished),
      };
      this.loaded.value = this.loaded.value || this.log.cursor >= this.target;
    });
  }

  /** Queued turns that a call answered with before the stream told of them. */
  private unseen(): TurnView[] {
    return [...this.turns.value.values()]
      .filter((turn) => turn.state === TurnState.QUEUED && !this.log.turns.has(turn.name))
      .map((turn) => ({
        name: turn.name,
        position: turn.position,
        edits: 0,
        usage: { inputTokens: 0n, outputTokens: 0n, costUsd: 0, calls: 0 },
        rows: [],
        anchor: 1n << 62n,
      }));
  }

  private hiddenTimer: ReturnType<typeof setTimeout> | undefined;

  private readonly onVisibility = (): void => {
    clearTimeout(this.hiddenTimer);
    if (document.visibilityState === "visible") {
      if (this.following?.signal.aborted) {
        this.following = new AbortController();
        void this.run(this.following.signal);
      }
      return;
    }
    this.hiddenTimer = setTimeout(() => {
      if (!this.frame.value.running && this.frame.value.queue.length === 0) this.following?.abort();
    }, HIDDEN_GRACE_MS);
  };
}

/** Waits, but not past the moment in which the network comes back or somebody looks. */
function pauseUntilHope(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const events = new AbortController();
    const done = () => {
      clearTimeout(timer);
      events.abort();
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done, { signal: events.signal });
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && done(), {
      signal: events.signal,
    });
    signal.addEventListener("abort", done, { signal: events.signal });
  });
}

/** Stores of the sessions looked at last, so that going back is instant: they resume from their cursors. */
const KEPT = 6;
const kept = new Map<string, SessionStore>();

export function storeOf(name: string): SessionStore {
  const store = kept.get(name) ?? new SessionStore(name);
  kept.delete(name);
  kept.set(name, store);
  for (const [old, other] of kept) {
    if (kept.size <= KEPT) break;
    other.close();
    kept.delete(old);
  }
  return store;
}

/** Forgets everything read: for signing out, and for a session that was deleted. */
export function forget(name?: string): void {
  for (const [key, store] of kept) {
    if (name && key !== name) continue;
    store.close();
    kept.delete(key);
  }
}
