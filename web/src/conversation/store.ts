import { batch, signal } from "@preact/signals";
import { sessions as sessionClient } from "../api/clients.ts";
import { type Failure, failureOf, isFinal } from "../api/failure.ts";
import type { Event } from "../gen/pointsman/session/v1/event_pb.ts";
import type { Session } from "../gen/pointsman/session/v1/session_service_pb.ts";
import type { Turn } from "../gen/pointsman/session/v1/turn_pb.ts";
import { signedOut } from "../state/notices.ts";
import { putSession } from "../state/sessions.ts";
import { type Connection, follow } from "./follow.ts";
import { EMPTY, type Frame, frameOf } from "./frame.ts";
import { ConversationLog } from "./log.ts";
import { pauseUntilHope } from "./pause.ts";
import { readTurns, watchEvents } from "./records.ts";

/** A page shows at most one frame of news per this many milliseconds; what comes between is taken together. */
const FRAME_MS = 33;
/** Turns end and begin in pairs: one reading does for both. */
const REFRESH_DELAY_MS = 250;
/** How long a hidden tab in which nothing runs keeps its stream: browsers allow few connections per server. */
const HIDDEN_GRACE_MS = 60_000;

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
  private hiddenTimer: ReturnType<typeof setTimeout> | undefined;
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
        watch: (afterSequence, streamSignal, onOpen) =>
          watchEvents(this.name, afterSequence, streamSignal, onOpen),
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
        await this.readOnce();
        return true;
      } catch (thrown) {
        const failure = failureOf(thrown);
        if (signedOut(failure)) return false;
        if (isFinal(failure.code)) {
          this.failure.value = failure;
          return false;
        }
        this.connection.value = { state: "lost", attempt, failure };
        await pauseUntilHope(Math.min(500 * 2 ** attempt, 10_000), signal);
      }
    }
    return false;
  }

  private async readOnce(): Promise<void> {
    await this.refresh();
    const session = this.session.value;
    if (session) {
      this.target = session.lastSequence;
      const before = session.firstSequence - 1n;
      if (before > 0n && this.log.cursor < before) this.restart(before);
    }
    this.turns.value = await readTurns(this.name, this.turns.value);
    this.loaded.value = this.loaded.value || this.log.cursor >= this.target;
    this.failure.value = undefined;
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
      this.turns.value = await readTurns(this.name, this.turns.value);
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
    batch(() => {
      this.frame.value = frameOf(this.log, this.turns.value);
      this.loaded.value = this.loaded.value || this.log.cursor >= this.target;
    });
  }

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
