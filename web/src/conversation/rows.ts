import type {
  ContextCreated,
  FileChange,
  ModelRetry,
  PermissionDecided,
  PermissionRequested,
  SandboxChanged,
  ToolResult,
  ToolUse,
  TriageDecided,
  TurnStarted,
} from "../gen/pointsman/session/v1/event_pb.ts";
import type { TurnFinished } from "../gen/pointsman/session/v1/turn_pb.ts";

/**
 * What a conversation shows, one row each. Rows are never changed in place: a row that changes is replaced by a
 * new object with the same `key`, so that a view may compare by identity.
 */
export type Row =
  | TextRow
  | ToolRow
  | ChangeRow
  | PermissionRow
  | RetryRow
  | SandboxRow
  | TriageRow
  | ContextRow
  | WarningRow;

interface Base {
  /** Unique within its session, and stable. */
  key: string;
}

export interface TextRow extends Base {
  kind: "text" | "thinking";
  text: string;
  /** Still being written. */
  live: boolean;
}

export interface ToolRow extends Base {
  kind: "tool";
  use: ToolUse;
  /** When it was called; milliseconds since 1970. */
  startedAt: number;
  result?: ToolResult;
  endedAt?: number;
  changes: FileChange[];
  permission?: Permission;
  /** What happened in the sub-agent that this call started. */
  children: Row[];
}

/** A file that changed without a tool call that says so. */
export interface ChangeRow extends Base {
  kind: "change";
  change: FileChange;
}

/** A permission request whose tool call is not known. */
export interface PermissionRow extends Base {
  kind: "permission";
  permission: Permission;
}

export interface RetryRow extends Base {
  kind: "retry";
  retry: ModelRetry;
}

export interface SandboxRow extends Base {
  kind: "sandbox";
  sandbox: SandboxChanged;
}

export interface TriageRow extends Base {
  kind: "triage";
  triage: TriageDecided;
}

export interface ContextRow extends Base {
  kind: "context";
  context: ContextCreated;
}

/** Something that the turn goes on without. */
export interface WarningRow extends Base {
  kind: "warning";
  message: string;
}

export interface Permission {
  turn: string;
  request: PermissionRequested;
  decided?: PermissionDecided;
}

/** One turn as the log tells it. Replaced, not changed, like a row; `rows` is the exception, see `ConversationLog`. */
export interface TurnView {
  name: string;
  /** Place in its account's queue while it waits; 0 once it runs. */
  position: number;
  /** Counts edits while queued, so that a view knows to fetch the prompt again. */
  edits: number;
  started?: TurnStarted;
  startedAt?: number;
  finished?: TurnFinished;
  /** Tokens and cost reported so far; `finished.usage` is the final word. */
  usage: { inputTokens: bigint; outputTokens: bigint; costUsd: number; calls: number };
  rows: Row[];
  /** Sequence that decides its place in the conversation: its start, else its end, else its first event. */
  anchor: bigint;
}
