import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { decide } from "../conversation/actions.ts";
import type { Permission } from "../conversation/rows.ts";
import { PermissionDecision } from "../gen/pointsman/session/v1/event_pb.ts";
import { visibleLine } from "../text/visible.ts";
import { Expiry } from "./expiry.tsx";
import { Icon } from "./icons.tsx";
import { QuestionCard } from "./question.tsx";
import { describeTool, ToolInput } from "./tool-input.tsx";

/** What waits for the reader's decision, one at a time, oldest first. */
export function Approvals({ pending }: { pending: Permission[] }) {
  const first = pending[0];
  if (!first) return null;
  const more = pending.length > 1 ? `1 of ${pending.length}` : "";
  const key = first.request.permissionId;
  return first.request.tool === "AskUserQuestion" ? (
    <QuestionCard key={key} permission={first} more={more} />
  ) : (
    <ApprovalCard key={key} permission={first} more={more} />
  );
}

function ApprovalCard({ permission, more }: { permission: Permission; more: string }) {
  const [busy, setBusy] = useState(false);
  const [denying, setDenying] = useState(false);
  const [reason, setReason] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    if (denying) field.current?.focus();
  }, [denying]);
  const { request } = permission;
  const answer = async (decision: PermissionDecision, message = "") => {
    setBusy(true);
    // When it succeeds, the event takes the card away, in every tab.
    if (!(await decide(permission, decision, message))) setBusy(false);
  };
  return (
    <section class="card approval" aria-label="Permission request" aria-live="assertive">
      <header>
        <Icon name="warning" />
        <h2>
          Allow <strong>{visibleLine(request.tool, 80)}</strong>?
        </h2>
        <span class="card-more">{more}</span>
        <Expiry permission={permission} />
      </header>
      {describeTool(request.tool, request.input).note && (
        <p class="card-note">{describeTool(request.tool, request.input).note}</p>
      )}
      <ToolInput tool={request.tool} input={request.input} />
      {denying ? (
        <form
          class="deny"
          onSubmit={(event) => {
            event.preventDefault();
            void answer(PermissionDecision.DENY, reason.trim());
          }}
        >
          <label class="field">
            <span>What should it do instead? (may be empty)</span>
            <input ref={field} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
          </label>
          <div class="card-actions">
            <button type="submit" class="button danger" disabled={busy}>
              Deny
            </button>
            <button type="button" class="button" disabled={busy} onClick={() => setDenying(false)}>
              Back
            </button>
          </div>
        </form>
      ) : (
        <div class="card-actions">
          <button
            type="button"
            class="button primary"
            data-shortcut="allow"
            disabled={busy}
            onClick={() => answer(PermissionDecision.ALLOW)}
          >
            Allow
          </button>
          <button
            type="button"
            class="button"
            disabled={busy}
            onClick={() => answer(PermissionDecision.ALLOW_FOR_SESSION)}
          >
            Allow for this session
          </button>
          <button
            type="button"
            class="button"
            data-shortcut="deny"
            disabled={busy}
            onClick={() => setDenying(true)}
          >
            Deny…
          </button>
        </div>
      )}
    </section>
  );
}
