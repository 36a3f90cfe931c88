import { SandboxState } from "../../gen/pointsman/session/v1/event_pb.ts";
import type { Session } from "../../gen/pointsman/session/v1/session_service_pb.ts";
import { hrefOf } from "../../state/route.ts";
import { ago } from "../../text/format.ts";
import { visibleLine } from "../../text/visible.ts";
import { Broken } from "../controls.tsx";
import type { Reading } from "../reading.ts";
import { Figure } from "./figure.tsx";

const SANDBOXES: [string, SandboxState[]][] = [
  ["running", [SandboxState.RUNNING, SandboxState.STARTING]],
  ["idle", [SandboxState.IDLE, SandboxState.READY, SandboxState.RESUMED]],
  ["paused", [SandboxState.PAUSED]],
  ["hibernated", [SandboxState.HIBERNATED]],
];

/** What runs and waits, and the sandboxes by state. */
export function Work({ list }: { list: Reading<{ sessions: Session[] }> }) {
  if (list.failure && !list.value)
    return (
      <section>
        <h2>Work</h2>
        <Broken
          title="The sessions could not be read"
          text={`${list.failure.message} ${list.failure.advice}`}
          onRetry={list.again}
        />
      </section>
    );
  const all = list.value?.sessions ?? [];
  const busy = all.filter((session) => session.runningTurn || session.queuedTurns > 0);
  const sandboxes = SANDBOXES.map(([name, states]) => ({
    name,
    number: all.filter((session) => session.sandbox && states.includes(session.sandbox.state)).length,
  }));
  const total = sandboxes.reduce((sum, each) => sum + each.number, 0);
  return (
    <section aria-labelledby="work-title">
      <h2 id="work-title">Work</h2>
      <div class="figures">
        <Figure number={all.filter((session) => session.runningTurn).length} name="turns running" />
        <Figure number={all.reduce((sum, session) => sum + session.queuedTurns, 0)} name="prompts waiting" />
        <Figure number={total} name="sandboxes" />
      </div>
      {total > 0 && (
        <div
          class="proportion"
          role="img"
          aria-label={`Sandboxes: ${sandboxes.map((each) => `${each.number} ${each.name}`).join(", ")}`}
        >
          <div class="proportion-bar">
            {sandboxes.map(
              (each, index) =>
                each.number > 0 && (
                  <span key={each.name} class={`c${index}`} style={{ flexGrow: each.number }} />
                ),
            )}
          </div>
          <div class="legend">
            {sandboxes.map((each, index) => (
              <span key={each.name}>
                <i class={`swatch c${index}`} />
                {each.number} {each.name}
              </span>
            ))}
          </div>
        </div>
      )}
      {busy.length > 0 && (
        <ul class="busy">
          {busy.map((session) => (
            <li key={session.name}>
              {session.runningTurn ? <span class="pulse" /> : <span class="dot" />}
              <a href={hrefOf({ page: "session", session: session.name })}>
                {visibleLine(session.title, 80) || "Untitled"}
              </a>
              <span class="hint">
                {[
                  session.account,
                  session.queuedTurns > 0 && `${session.queuedTurns} waiting`,
                  ago(session.lastActivityTime),
                ]
                  .filter(Boolean)
                  .join(" · ")}
              </span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
