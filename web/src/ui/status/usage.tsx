import { models } from "../../api/clients.ts";
import { UsageDimension, type UsageRow } from "../../gen/pointsman/llm/v1/model_service_pb.ts";
import { count, dollars } from "../../text/format.ts";
import { Broken, Empty, Spinner } from "../controls.tsx";
import { Icon } from "../icons.tsx";
import type { Reading } from "../reading.ts";
import { type Series, StackedBars } from "./chart.tsx";
import { Figure } from "./figure.tsx";

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
export function UsageCharts({ usage, days }: { usage: Reading<UsageRow[]>; days: number }) {
  if (usage.failure && !usage.value)
    return (
      <Broken
        title="Usage could not be read"
        text={`${usage.failure.message} ${usage.failure.advice}`}
        onRetry={usage.again}
      />
    );
  if (!usage.value) return <Spinner label="Adding up" />;
  const rows = usage.value;
  if (rows.length === 0)
    return (
      <Empty icon="status" title="Nothing used yet">
        Tokens and cost appear here with the first turn.
      </Empty>
    );
  const columns = Array.from({ length: days }, (_, index) =>
    new Date(Date.now() - (days - 1 - index) * 86_400_000).toISOString().slice(0, 10),
  );
  const by = (measure: (row: UsageRow) => number): Series[] => {
    const names = [...new Set(rows.map((row) => row.model))];
    return names
      .map((name) => ({
        name,
        values: columns.map((day) =>
          rows
            .filter((row) => row.model === name && row.day === day)
            .reduce((sum, row) => sum + measure(row), 0),
        ),
      }))
      .filter((series) => series.values.some((value) => value > 0));
  };
  const cost = by((row) => row.usage?.costUsd ?? 0);
  const errors: Series[] = [
    {
      name: "failed calls",
      values: columns.map((day) => sumOf(rows, day, (row) => Number(row.failedCalls))),
    },
    { name: "retries", values: columns.map((day) => sumOf(rows, day, (row) => Number(row.retries))) },
  ];
  const anyErrors = errors.some((series) => series.values.some((value) => value > 0));
  const all = (measure: (row: UsageRow) => number) => rows.reduce((sum, row) => sum + measure(row), 0);
  return (
    <>
      <div class="figures">
        <Figure number={count(all(tokensOf))} name="tokens" />
        <Figure number={dollars(all((row) => row.usage?.costUsd ?? 0)) || "$0"} name="cost" />
        <Figure number={count(all((row) => row.usage?.modelCalls ?? 0))} name="model calls" />
        <Figure number={count(all((row) => Number(row.failedCalls)))} name="failed" />
      </div>
      <StackedBars
        title="Tokens a day"
        columns={columns}
        series={by(tokensOf)}
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
      {anyErrors ? (
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

function sumOf(rows: UsageRow[], day: string, measure: (row: UsageRow) => number): number {
  return rows.filter((row) => row.day === day).reduce((sum, row) => sum + measure(row), 0);
}

function tokensOf(row: UsageRow): number {
  const { usage } = row;
  return usage
    ? Number(usage.inputTokens + usage.outputTokens + usage.cacheReadTokens + usage.cacheWriteTokens)
    : 0;
}
