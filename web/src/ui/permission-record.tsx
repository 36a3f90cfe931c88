import type { Permission } from "../conversation/rows.ts";
import { PermissionDecision } from "../gen/pointsman/session/v1/event_pb.ts";
import { visibleLine } from "../text/visible.ts";

const DECISIONS: Partial<Record<PermissionDecision, string>> = {
  [PermissionDecision.ALLOW]: "Allowed",
  [PermissionDecision.ALLOW_FOR_SESSION]: "Allowed for this session",
  [PermissionDecision.DENY]: "Denied",
};

/** What was decided, and by whom. */
export function PermissionRecord({ permission }: { permission: Permission }) {
  const { decided, request } = permission;
  if (!decided)
    return (
      <p class="permission-record waits">{visibleLine(request.tool, 60)} waits for a decision, below.</p>
    );
  const by = decided.timedOut
    ? "because nobody decided in time"
    : decided.principal && `by ${visibleLine(decided.principal, 80)}`;
  return (
    <p class="permission-record">
      {DECISIONS[decided.decision] ?? "Decided"} {by}
      {decided.message && `: ${visibleLine(decided.message, 300)}`}
    </p>
  );
}
