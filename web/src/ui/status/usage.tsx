import { models } from "../../api/clients.ts";
import { UsageDimension, type UsageRow } from "../../gen/pointsman/llm/v1/model_service_pb.ts";
import { count, dollars } from "../../text/format.ts";
import { Broken, Empty, Spinner } from "../controls.tsx";
import { Icon } from "../icons.tsx";
import type { Reading } from "../reading.ts";
import { StackedBars } from "./chart.tsx";
import { Figure } from "./figure.tsx";
import { byModel, costOf, sum, tokensOf, troubles } from "./series.ts";

/** Tokens, cost and errors by day and model. */
export async function readUsage(days: number, signal: AbortSignal): Promise<UsageRow[]> {
  const start = Math.floor(Date.now() / 86_400_000 - days + 1) * 86_400;
  const answer = await models.getUsage(
    { startTime: { seconds: BigInt(start) }, groupBy: [UsageDimension.DAY, UsageDimension.MODEL] },
    { signal },
  );
  return answer.rows;
}

/** What the models did in these days. */
export function Usage({ usage, days }: { usage: Reading<UsageRow[]>; days: number }) {
  if (usage.failure && !usage.value)
    return (
      <Broken
        title="Usage could not be read"
        text={`${usage.failure.message} ${usage.failure.advice}`}
        onRetry={usage.again}
      />
    );
  if (!usage.value) return <Spinner label="Adding up" />;
  if (usage.value.length === 0)
    return (
      <Empty icon="status" title="Nothing used yet">
        Tokens and cost appear here with the first turn.
      </Empty>
    );
  return <Charts rows={usage.value} days={days} />;
}

function Charts({ rows, days }: { rows: UsageRow[]; days: number }) {
  const columns = Array.from({ length: days }, (_, index) =>
    new Date(Date.now() - (days - 1 - index) * 86_400_000).toISOString().slice(0, 10),
  );
  const cost = byModel(rows, columns, costOf);
  const errors = troubles(rows, columns);
  return (
    <>
      <div class="figures">
        <Figure number={count(sum(rows, tokensOf))} name="tokens" />
        <Figure number={dollars(sum(rows, costOf)) || "$0"} name="cost" />
        <Figure number={count(sum(rows, (row) => row.usage?.modelCalls ?? 0))} name="model calls" />
        <Figure number={count(sum(rows, (row) => Number(row.failedCalls)))} name="failed" />
      </div>
      <StackedBars
        title="Tokens a day"
        columns={columns}
        series={byModel(rows, columns, tokensOf)}
        format={(value) => count(Math.round(value))}
      />
      {cost.length > 0 ? (
        <StackedBars
          title="Cost a day"
          columns={columns}
          series={cost}
          format={(value) => (value ? dollars(value) : "$0")}
        />
      ) : (
        <p class="hint">The models in use have no price, so there is no cost to plot.</p>
      )}
      {errors.length > 0 ? (
        <StackedBars
          title="Errors a day"
          columns={columns}
          series={errors}
          format={(value) => count(Math.round(value * 10) / 10)}
        />
      ) : (
        <p class="hint calm">
          <Icon name="check" size={14} /> No model call failed in these {days} days.
        </p>
      )}
    </>
  );
}
