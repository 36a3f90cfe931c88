import type { ComponentChildren } from "preact";
import type { ContextRow, RetryRow, SandboxRow, TriageRow, WarningRow } from "../conversation/rows.ts";
import { TurnRoute } from "../gen/pointsman/session/v1/turn_pb.ts";
import { bytes, seconds, span } from "../text/format.ts";
import { sandboxWord } from "../text/sandbox.ts";
import { visibleLine } from "../text/visible.ts";
import { Icon, type IconName } from "./icons.tsx";

/** What happened beside the work itself, in a line. */
function Note({ icon, tone = "", children }: { icon: IconName; tone?: string; children: ComponentChildren }) {
  return (
    <div class={`row note ${tone}`}>
      <Icon name={icon} size={14} />
      <span>{children}</span>
    </div>
  );
}

export function RetryNote({ row }: { row: RetryRow }) {
  const { attempt, maxAttempts, delay, status, message } = row.retry;
  const tries = maxAttempts ? `attempt ${attempt} of ${maxAttempts}` : `attempt ${attempt}`;
  return (
    <Note icon="retry" tone="warn">
      Model call failed ({tries}
      {status ? `, status ${status}` : ""}), trying again{delay ? ` in ${span(seconds(delay))}` : ""}.{" "}
      {visibleLine(message, 300)}
    </Note>
  );
}

export function SandboxNote({ row }: { row: SandboxRow }) {
  const { state, duration, pooled } = row.sandbox;
  return (
    <Note icon="terminal">
      Sandbox {sandboxWord(state) || "changed"}
      {seconds(duration) > 0 && ` in ${span(seconds(duration))}`}
      {pooled && ", from the pool"}
    </Note>
  );
}

/** Who decides when no rule and no model does; its reason would say no more than that. */
const BY_DEFAULT = "default";

export function TriageNote({ row }: { row: TriageRow }) {
  const { route, decidedBy, reason, escalated } = row.triage;
  const directly =
    route === TurnRoute.DIRECT ? "Answered directly, without a sandbox" : "Answered by an agent";
  return (
    <Note icon="fork">
      <span title={`Decided by ${visibleLine(decidedBy)}`}>
        {escalated ? "Goes on with an agent" : directly}
        {reason && decidedBy !== BY_DEFAULT && `: ${visibleLine(reason, 300)}`}
      </span>
    </Note>
  );
}

export function ContextNote({ row }: { row: ContextRow }) {
  const { provider, sizeBytes, error } = row.context;
  if (error)
    return (
      <Note icon="warning" tone="warn">
        No context from {visibleLine(provider)}: {visibleLine(error.message, 300)}
      </Note>
    );
  return (
    <Note icon="file">
      {bytes(sizeBytes)} of context from {visibleLine(provider)}
    </Note>
  );
}

export function WarningNote({ row }: { row: WarningRow }) {
  return (
    <Note icon="warning" tone="warn">
      {visibleLine(row.message, 500)}
    </Note>
  );
}
