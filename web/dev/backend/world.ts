import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import {
  type Event,
  EventSchema,
  type PermissionDecided,
} from "../../src/gen/pointsman/session/v1/event_pb.ts";
import { type Session, SessionSchema } from "../../src/gen/pointsman/session/v1/session_service_pb.ts";
import { type Turn, TurnSchema, TurnState } from "../../src/gen/pointsman/session/v1/turn_pb.ts";
import type { ScriptedFile } from "./types.ts";

type Kind = NonNullable<MessageInitShape<typeof EventSchema>["kind"]>;

/** One session of the scripted backend: its log, its turns, its files, and who watches. */
export class ScriptedSession {
  readonly record: Session;
  readonly turns: Turn[] = [];
  readonly events: Event[] = [];
  readonly files = new Map<string, ScriptedFile>();
  readonly snapshots: {
    name: string;
    title: string;
    files: Map<string, ScriptedFile>;
    at: ReturnType<typeof timestampNow>;
  }[] = [];
  private readonly watchers = new Set<(event: Event) => void>();
  private readonly decisions = new Map<string, (decided: PermissionDecided) => void>();
  readonly cancelled = new Set<string>();
  private block: Event | undefined;

  constructor(account: string, title: string, model: string) {
    const now = timestampNow();
    this.record = create(SessionSchema, {
      name: `sessions/${randomUUID()}`,
      account: account || "default",
      title,
      preferredModel: model,
      createTime: now,
      lastActivityTime: now,
      firstSequence: 1n,
      workspacePath: "/workspace",
      usage: {},
    });
  }

  /** Adds to what it has cost so far. */
  spend(usd: number): void {
    const before = this.record.usage;
    if (before) this.record.usage = { ...before, costUsd: before.costUsd + usd };
  }

  /** Tells that fields of a waiting turn have changed, and with them the places of the others. */
  announce(changed: Turn, fields: string[]): void {
    for (const turn of this.waiting)
      this.emit(turn.name, {
        case: "turnUpdated",
        value: { position: turn.position, fields: turn === changed ? fields : ["position"] },
      });
  }

  /** Logs an event and tells the watchers. */
  emit(turn: string, kind: Kind, parent = ""): void {
    const live = kind.case === "textDelta" || kind.case === "thinkingDelta";
    const event = create(EventSchema, {
      sequence: live ? 0n : BigInt(this.events.length + 1),
      createTime: timestampNow(),
      turn,
      parentToolUseId: parent,
      kind,
    });
    if (!live) {
      this.events.push(event);
      this.record.lastSequence = event.sequence;
      this.record.lastActivityTime = event.createTime;
    }
    this.remember(event);
    for (const watcher of this.watchers) watcher(event);
  }

  /** Keeps what was written of the block under way, for watchers that join in the middle of it. */
  private remember(event: Event): void {
    const { kind } = event;
    if (kind.case === "textDelta") {
      const text =
        this.block?.kind.case === "textDelta" && kind.value.offset > 0n
          ? this.block.kind.value.text + kind.value.text
          : kind.value.text;
      this.block = { ...event, kind: { case: "textDelta", value: { ...kind.value, text, offset: 0n } } };
    } else if (kind.case === "assistantMessage" || kind.case === "turnFinished") {
      this.block = undefined;
    }
  }

  async *watch(after: bigint, signal: AbortSignal): AsyncIterable<Event> {
    const queue: Event[] = this.events.slice(Number(after));
    if (this.block) queue.push(this.block);
    let wake = (): void => undefined;
    const watcher = (event: Event) => {
      queue.push(event);
      wake();
    };
    this.watchers.add(watcher);
    signal.addEventListener("abort", () => wake());
    try {
      while (!signal.aborted) {
        for (let event = queue.shift(); event; event = queue.shift()) yield event;
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (queue.length || signal.aborted) resolve();
        });
      }
    } finally {
      this.watchers.delete(watcher);
    }
  }

  enqueue(prompt: string, model: string, init: Partial<MessageInitShape<typeof TurnSchema>>): Turn {
    const turn = create(TurnSchema, {
      name: `${this.record.name}/turns/${randomUUID()}`,
      session: this.record.name,
      account: this.record.account,
      prompt,
      model: model || this.record.preferredModel,
      state: TurnState.QUEUED,
      createTime: timestampNow(),
      usage: {},
      ...init,
    } as MessageInitShape<typeof TurnSchema>);
    this.turns.push(turn);
    this.number();
    this.record.title ||= prompt.slice(0, 60);
    this.emit(turn.name, { case: "turnQueued", value: { position: turn.position } });
    return turn;
  }

  get waiting(): Turn[] {
    return this.turns
      .filter((turn) => turn.state === TurnState.QUEUED)
      .sort((a, b) => a.position - b.position);
  }

  /** Moves a waiting turn, and numbers the queue anew. */
  number(moved?: Turn, position = 0): void {
    const line = this.waiting.filter((turn) => turn !== moved);
    for (const turn of line) if (turn.position === 0) turn.position = 10_000;
    line.sort((a, b) => a.position - b.position);
    if (moved) line.splice(Math.max(0, position - 1), 0, moved);
    for (const [index, turn] of line.entries()) turn.position = index + 1;
    this.record.queuedTurns = line.length;
  }

  decision(permission: string): Promise<PermissionDecided> {
    return new Promise((resolve) => this.decisions.set(permission, resolve));
  }

  decide(permission: string, decided: PermissionDecided): void {
    this.decisions.get(permission)?.(decided);
    this.decisions.delete(permission);
  }
}
