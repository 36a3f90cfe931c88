import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { ErrorReason, type Failure as WireFailure } from "../gen/pointsman/errors/v1/errors_pb.ts";

/** What went wrong, in words for a person, and what they can do. */
export interface Failure {
  /** The reason's name without `ERROR_REASON_`; empty when the answer had none. */
  reason: string;
  code: Code;
  /** What happened. */
  message: string;
  /** What to do about it; empty when the message says it all. */
  advice: string;
  metadata: Record<string, string>;
  /** Seconds to wait before trying again; undefined when trying again is no help. */
  retryAfter?: number;
}

/** What to do, per reason, where the server's message cannot know that it is read in a browser. */
const ADVICE: Record<string, string> = {
  CREDENTIAL_MISSING: "Sign in with an API key.",
  CREDENTIAL_INVALID: "", // The message says it.
  CREDENTIAL_EXPIRED: "Sign in with a new key or token.",
  CREDENTIAL_REVOKED: "Ask whoever gave you the key for a new one.",
  SCOPE_MISSING: "Sign in with a key whose role allows this.",
  MODEL_UNKNOWN: "Choose another model below.",
  MODEL_UNPRICED: "Choose a model with a price, or leave the budget out.",
  TEMPLATE_NOT_FOUND: "It was deleted meanwhile. Begin with another one, or with none.",
  TEMPLATE_EXISTS: "", // The message says it.
  SNAPSHOT_NOT_FOUND: "It was deleted meanwhile.",
  SHARED_FOLDER_NOT_FOUND: "The session that it belongs to may be deleted. Share another folder, or none.",
  EGRESS_NOT_ALLOWED: "Ask the operator to allow the host, or leave it out.",
  PROVIDER_CREDENTIAL_MISSING: "Set that variable where Pointsman runs, or choose another model.",
  PROVIDER_CREDENTIAL_REFUSED: "The provider's key is wrong or used up. Choose another model meanwhile.",
  PROVIDER_UNAVAILABLE: "Send the prompt again in a moment, or choose another model.",
  PROVIDER_RATE_LIMITED: "Send the prompt again in a moment, or choose another model.",
  PROVIDER_TIMED_OUT: "Send the prompt again, or choose another model.",
  PROVIDER_RESPONSE_INVALID: "Send the prompt again, or choose another model.",
  TURN_INTERRUPTED: "", // The message says it.
  SANDBOX_CRASHED: "Send the prompt again; files and conversation are kept.",
  SANDBOX_START_FAILED: "Send the prompt again; if it stays so, look at the status page.",
  SANDBOX_OUT_OF_MEMORY: "Ask for the work in smaller steps.",
  SANDBOXES_BUSY: "Send the prompt again in a moment.",
  MAX_TURNS_REACHED: "Say “go on” to let it continue from here.",
  TURN_TIMED_OUT: "Say “go on” to let it continue from here.",
  OUTPUT_TOKENS_REACHED: "Say “continue”, or ask for less at once.",
  CONTEXT_TOO_LONG:
    "Begin a new session, send a shorter prompt, or choose a model with a larger context window.",
  MODEL_REFUSED: "Change the prompt, or choose another model.",
  ANSWER_INCOMPLETE: "Say “continue” to get the rest.",
  OUTPUT_SCHEMA_NOT_MET: "Ask again, and say what the answer has to hold.",
  ATTACHMENT_UNSUPPORTED: "Choose a model that takes it, or leave it out.",
  OUTPUT_LIMIT: "Ask for less output, for instance into a file.",
  BUDGET_EXCEEDED: "Raise the budget, or choose a cheaper model.",
  QUEUE_FULL: "Wait for a turn to finish, or cancel one that waits.",
  WORKSPACE_FULL: "Delete files you no longer need.",
  WORKSPACE_MISSING: "Restore a snapshot, or fork this session or begin a new one.",
  SNAPSHOT_LIMIT: "Delete a snapshot you no longer need.",
  TURN_NOT_QUEUED: "It is already running or over.",
  TURN_RUNNING: "Stop the turn or wait for its end, then try again.",
  SESSION_NOT_FOUND: "It was deleted, or belongs to another key.",
  SERVICE_UNAVAILABLE: "Try again in a moment; the status page shows what is down.",
  DATABASE_UNAVAILABLE: "Try again in a moment.",
  SERVICE_DRAINING: "Try again in a moment.",
};

/** The failure behind anything that a call threw. */
export function failureOf(thrown: unknown): Failure {
  const error = ConnectError.from(thrown);
  const info = error.findDetails(ErrorInfoSchema)[0];
  const reason = info?.reason ?? "";
  const fields = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  const retry = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    reason,
    code: error.code,
    message: fields.length
      ? fields.map((field) => `${field.field}: ${field.description}`).join("; ")
      : describe(error),
    advice: ADVICE[reason] ?? adviceForCode(error.code),
    metadata: info?.metadata ?? {},
    retryAfter: retry && Number(retry.seconds) + retry.nanos / 1e9,
  };
}

/** The failure that a turn's last event carries. */
export function failureFromEvent(failure: WireFailure): Failure {
  const reason = ErrorReason[failure.reason] ?? "";
  return {
    reason,
    code: Code.Unknown,
    message: failure.message || "The turn failed, and nothing says why.",
    advice: ADVICE[reason] ?? "",
    metadata: failure.metadata,
    retryAfter: failure.retryAfter && Number(failure.retryAfter.seconds),
  };
}

function describe(error: ConnectError): string {
  if (error.code === Code.Unauthenticated)
    return error.rawMessage.startsWith("HTTP") ? "The key was not accepted." : error.rawMessage;
  if (isConnectionLoss(error.code)) {
    return isOffline() ? "This device is offline." : "Pointsman does not answer.";
  }
  return error.rawMessage || "The call failed, and the answer does not say why.";
}

function adviceForCode(code: Code): string {
  if (code === Code.Unauthenticated) return "Check that you copied all of it.";
  if (code === Code.PermissionDenied) return "Sign in with a key that may do this.";
  if (isConnectionLoss(code))
    return isOffline()
      ? "Check the network; this page tries again by itself."
      : "Check that it runs; this page tries again by itself.";
  return "";
}

function isOffline(): boolean {
  return globalThis.navigator?.onLine === false;
}

/** Whether the server could not be reached at all, as far as a browser can tell. */
export function isConnectionLoss(code: Code): boolean {
  return code === Code.Unavailable || code === Code.DeadlineExceeded || code === Code.Unknown;
}

/** Whether asking the same again is of no use, whenever it is. */
export function isFinal(code: Code): boolean {
  return [Code.NotFound, Code.PermissionDenied, Code.InvalidArgument, Code.Unimplemented].includes(code);
}
