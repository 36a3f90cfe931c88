import { failureFromEvent } from "../api/failure.ts";
import type { TurnView } from "../conversation/rows.ts";
import { type TurnFinished, TurnRoute, TurnState } from "../gen/pointsman/session/v1/turn_pb.ts";
import { count, dollars, seconds, span } from "../text/format.ts";
import { visible } from "../text/visible.ts";
import { Icon } from "./icons.tsx";

const OUTCOMES: Partial<Record<TurnState, string>> = {
  [TurnState.FAILED]: "The turn failed",
  [TurnState.CANCELLED]: "Stopped",
  [TurnState.INTERRUPTED]: "The turn was cut off",
};

/** Reasons of turns whose result is the beginning of an answer. */
const INCOMPLETE = ["OUTPUT_TOKENS_REACHED", "ANSWER_INCOMPLETE"];

/** How a turn ended, and what it took. */
export function Finished({ view, finished }: { view: TurnView; finished: TurnFinished }) {
  const usage = finished.usage;
  const written = usage?.outputTokens ?? view.usage.outputTokens;
  const read = usage
    ? usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens
    : view.usage.inputTokens;
  const facts = [
    view.started?.model,
    view.started?.route === TurnRoute.DIRECT && "direct",
    seconds(finished.duration) > 0 && span(seconds(finished.duration)),
    read + written > 0n && `${count(read)} in, ${count(written)} out`,
    dollars(usage?.costUsd ?? view.usage.costUsd),
  ].filter(Boolean);
  const silent =
    finished.outcome === TurnState.SUCCEEDED &&
    finished.result &&
    !view.rows.some((row) => row.kind === "text");
  return (
    <>
      {silent && (
        <div class="row">
          <div class="answer">{visible(finished.result)}</div>
        </div>
      )}
      {finished.structuredOutput && (
        <pre class="plain structured" tabIndex={0} role="region" aria-label="Structured output">
          <code>{visible(JSON.stringify(finished.structuredOutput, null, 2))}</code>
        </pre>
      )}
      {finished.outcome !== TurnState.SUCCEEDED && (
        <Outcome finished={finished} started={view.started !== undefined} />
      )}
      {facts.length > 0 && (
        <div class="turn-foot">
          {facts.map((fact) => (
            <span key={String(fact)}>{fact}</span>
          ))}
        </div>
      )}
    </>
  );
}

function Outcome({ finished, started }: { finished: TurnFinished; started: boolean }) {
  const failure = finished.error && failureFromEvent(finished.error);
  const calm = finished.outcome === TurnState.CANCELLED;
  return (
    <div class={`outcome ${calm ? "calm" : "bad"}`} role={calm ? undefined : "alert"}>
      <Icon name={calm ? "stop" : "warning"} />
      <div>
        <p class="outcome-title">
          {failure && INCOMPLETE.includes(failure.reason)
            ? "The answer is incomplete"
            : calm && !started
              ? "Cancelled before it ran"
              : OUTCOMES[finished.outcome]}
        </p>
        {failure && !calm && <p>{visible(failure.message)}</p>}
        {failure?.advice && !calm && <p class="outcome-advice">{failure.advice}</p>}
        {finished.toolRan && !calm && (
          <p class="outcome-advice">A tool had run, so files may have changed.</p>
        )}
        {failure?.reason && !calm && <code class="reason">{failure.reason}</code>}
      </div>
    </div>
  );
}
