import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { AssistantMessage, Event } from "../gen/pointsman/session/v1/event_pb.ts";
import { LiveText } from "./live.ts";
import type { Permission, Row, ToolRow, TurnView } from "./rows.ts";
import { type Place, RowTree } from "./tree.ts";

/** An event came whose predecessor did not. The watcher asks again from `cursor`. */
export class SequenceGap extends Error {
  constructor(cursor: bigint, got: bigint) {
    super(`event ${got} came after event ${cursor}`);
  }
}

/** A block that is being written. */
interface LiveBlock {
  place: Place;
  text: LiveText;
}

/**
 * A session's events, folded into what a conversation shows. Knows nothing of network, clock or page.
 *
 * Kept events are taken once each, in order of `sequence`; ones that were seen are skipped. Live deltas show until
 * their block arrives as `assistant_message`. `changed` says which turns have changed since `settle` was called last.
 */
export class ConversationLog {
  /** Highest `sequence` taken: what to resume after. */
  cursor = 0n;
  readonly turns = new Map<string, TurnView>();
  readonly permissions = new Map<string, Permission>();
  private readonly rows = new RowTree();
  private readonly live = new Map<string, LiveBlock>();
  private readonly finishedBlocks = new Set<string>();
  private readonly dirtyBlocks = new Set<string>();
  private readonly dirtyTurns = new Set<string>();

  /** Takes an event. Throws `SequenceGap` when one is missing before it, having changed nothing. */
  apply(event: Event): void {
    if (event.sequence > 0n) {
      if (event.sequence <= this.cursor) return;
      if (this.cursor > 0n && event.sequence !== this.cursor + 1n)
        throw new SequenceGap(this.cursor, event.sequence);
      this.cursor = event.sequence;
    }
    this.fold(event);
  }

  /** Turns that changed since the last call; text being written is brought up to date first. */
  settle(): string[] {
    for (const key of this.dirtyBlocks) {
      const block = this.live.get(key);
      if (block) this.rows.replace(block.place, (row) => ({ ...row, text: block.text.text }) as Row);
    }
    this.dirtyBlocks.clear();
    const changed = [...this.dirtyTurns];
    this.dirtyTurns.clear();
    return changed;
  }

  /** Permission requests that wait for a decision, oldest first. */
  get pending(): Permission[] {
    return [...this.permissions.values()].filter(
      (permission) => !permission.decided && !this.turns.get(permission.turn)?.finished,
    );
  }

  private fold(event: Event): void {
    const { kind } = event;
    const at = event.createTime ? timestampMs(event.createTime) : 0;
    switch (kind.case) {
      case "turnQueued":
        this.change(event, { position: kind.value.position });
        break;
      case "turnUpdated":
        this.change(event, { position: kind.value.position, edits: this.turn(event).edits + 1 });
        break;
      case "turnStarted":
        this.change(event, { started: kind.value, startedAt: at, position: 0, anchor: event.sequence });
        break;
      case "turnFinished": {
        const started = this.turn(event).started !== undefined;
        this.change(event, {
          finished: kind.value,
          position: 0,
          ...(started ? {} : { anchor: event.sequence }),
        });
        this.closeLiveBlocks(event.turn);
        break;
      }
      case "usage": {
        const { usage } = this.turn(event);
        const used = kind.value.usage;
        if (!used) break;
        this.change(event, {
          usage: {
            inputTokens: usage.inputTokens + used.inputTokens + used.cacheReadTokens + used.cacheWriteTokens,
            outputTokens: usage.outputTokens + used.outputTokens,
            costUsd: usage.costUsd + used.costUsd,
            calls: usage.calls + Math.max(1, used.modelCalls),
          },
        });
        break;
      }
      case "textDelta":
        this.write(event, "text", kind.value.text, kind.value);
        break;
      case "thinkingDelta":
        this.write(event, "thinking", kind.value.thinking, kind.value);
        break;
      case "assistantMessage":
        this.finishBlock(event, kind.value);
        break;
      case "toolUse":
        this.append(event, {
          kind: "tool",
          key: `tool:${kind.value.id}`,
          use: kind.value,
          startedAt: at,
          changes: [],
          children: [],
        });
        break;
      case "toolResult": {
        const result = kind.value;
        this.changeTool(event, result.toolUseId, (row) => ({ ...row, result, endedAt: at }));
        break;
      }
      case "fileChange": {
        const change = kind.value;
        const added = this.changeTool(event, change.toolUseId, (row) => ({
          ...row,
          changes: [...row.changes, change],
        }));
        if (!added) this.append(event, { kind: "change", key: `change:${event.sequence}`, change });
        break;
      }
      case "permissionRequested":
        this.setPermission(event, { turn: event.turn, request: kind.value });
        break;
      case "permissionDecided": {
        const asked = this.permissions.get(kind.value.permissionId);
        if (asked) this.setPermission(event, { ...asked, decided: kind.value });
        break;
      }
      case "modelRetry":
        this.append(event, { kind: "retry", key: `retry:${event.sequence}`, retry: kind.value }, "retry");
        break;
      case "sandboxChanged":
        this.append(
          event,
          { kind: "sandbox", key: `sandbox:${event.sequence}`, sandbox: kind.value },
          "sandbox",
        );
        break;
      case "triageDecided":
        this.append(event, { kind: "triage", key: `triage:${event.sequence}`, triage: kind.value });
        break;
      case "contextCreated":
        this.append(event, { kind: "context", key: `context:${event.sequence}`, context: kind.value });
        break;
      case "mcpServerUnavailable": {
        const { name, message } = kind.value;
        this.warn(event, `The MCP server ${name} is not available: ${message}`);
        break;
      }
      case "transcriptIncomplete":
        this.warn(event, kind.value.message);
        break;
      default: // `keep_alive`, and kinds of a newer server.
    }
  }

  private warn(event: Event, message: string): void {
    this.append(event, { kind: "warning", key: `warning:${event.sequence}`, message });
  }

  private turn(event: Event): TurnView {
    let turn = this.turns.get(event.turn);
    if (!turn) {
      turn = {
        name: event.turn,
        position: 0,
        edits: 0,
        usage: { inputTokens: 0n, outputTokens: 0n, costUsd: 0, calls: 0 },
        rows: [],
        anchor: event.sequence,
      };
      this.turns.set(event.turn, turn);
      this.dirtyTurns.add(event.turn);
    }
    return turn;
  }

  private change(event: Event, values: Partial<TurnView>): void {
    this.turns.set(event.turn, { ...this.turn(event), ...values });
    this.dirtyTurns.add(event.turn);
  }

  private append(event: Event, row: Row, fold?: Row["kind"]): Place {
    this.dirtyTurns.add(event.turn);
    return this.rows.append(this.turn(event).rows, event.parentToolUseId, row, fold);
  }

  private changeTool(event: Event, id: string, by: (row: ToolRow) => ToolRow): boolean {
    this.dirtyTurns.add(event.turn);
    return this.rows.replaceTool(id, by);
  }

  private setPermission(event: Event, permission: Permission): void {
    this.permissions.set(permission.request.permissionId, permission);
    this.dirtyTurns.add(event.turn);
    if (this.changeTool(event, permission.request.toolUseId, (row) => ({ ...row, permission }))) return;
    const key = `permission:${permission.request.permissionId}`;
    const rows = this.turn(event).rows;
    const index = rows.findIndex((row) => row.key === key);
    if (index < 0) this.append(event, { kind: "permission", key, permission });
    else rows[index] = { kind: "permission", key, permission };
  }

  private write(
    event: Event,
    kind: "text" | "thinking",
    piece: string,
    at: { messageId: string; block: number; offset: bigint },
  ): void {
    const key = blockKey(event.turn, event.parentToolUseId, at);
    if (this.finishedBlocks.has(key) || this.turns.get(event.turn)?.finished) return;
    let block = this.live.get(key);
    if (!block) {
      block = {
        place: this.append(event, { kind, key: `block:${key}:${this.cursor}`, text: "", live: true }),
        text: new LiveText(),
      };
      this.live.set(key, block);
    }
    if (block.text.add(piece, Number(at.offset))) {
      this.dirtyBlocks.add(key);
      this.dirtyTurns.add(event.turn);
    }
  }

  private finishBlock(event: Event, message: AssistantMessage): void {
    const key = blockKey(event.turn, event.parentToolUseId, message);
    const kind = message.thinking ? "thinking" : "text";
    const text = message.thinking || message.text;
    const block = this.live.get(key);
    if (block) {
      this.rows.replace(block.place, (row) => ({ kind, key: row.key, text, live: false }));
      this.live.delete(key);
    } else {
      this.append(event, { kind, key: `block:${event.sequence}`, text, live: false });
    }
    this.dirtyTurns.add(event.turn);
    if (message.messageId) this.finishedBlocks.add(key);
  }

  /** A turn that ends in the middle of a block keeps what was written of it. */
  private closeLiveBlocks(turn: string): void {
    for (const [key, block] of this.live) {
      if (!key.startsWith(turn)) continue;
      this.rows.replace(block.place, (row) => ({ ...row, text: block.text.text, live: false }) as Row);
      this.live.delete(key);
    }
  }
}

function blockKey(turn: string, parent: string, at: { messageId: string; block: number }): string {
  return `${turn}|${parent}|${at.messageId}|${at.block}`;
}
