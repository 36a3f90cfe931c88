import type { UsageRow } from "../../gen/pointsman/llm/v1/model_service_pb.ts";
import type { Series } from "./chart.tsx";

type Measure = (row: UsageRow) => number;

/** Models that get a colour of their own, those with most tokens first; the rest are added up as “others”. */
const COLOURS = ["c0", "c1", "c2", "c3"];

export function tokensOf({ usage }: UsageRow): number {
  if (!usage) return 0;
  return Number(usage.inputTokens + usage.outputTokens + usage.cacheReadTokens + usage.cacheWriteTokens);
}

export function costOf({ usage }: UsageRow): number {
  return usage?.costUsd ?? 0;
}

export function sum(rows: UsageRow[], measure: Measure): number {
  return rows.reduce((total, row) => total + measure(row), 0);
}

/** A measure by model, day by day. A model has the same colour whatever is measured. */
export function byModel(rows: UsageRow[], days: string[], measure: Measure): Series[] {
  const of = (model: string) => rows.filter((row) => row.model === model);
  const models = [...new Set(rows.map((row) => row.model))].sort(
    (a, b) => sum(of(b), tokensOf) - sum(of(a), tokensOf),
  );
  const own = models.slice(0, COLOURS.length).map((name, index) => ({
    name,
    colour: COLOURS[index] ?? "c4",
    values: daily(of(name), days, measure),
  }));
  const rest = models.slice(COLOURS.length);
  const others = rows.filter((row) => rest.includes(row.model));
  const all = [...own, { name: `${rest.length} others`, colour: "c4", values: daily(others, days, measure) }];
  return all.filter((series) => series.values.some((value) => value > 0));
}

/** Calls that failed, and those that were tried again; none when all went well. */
export function troubles(rows: UsageRow[], days: string[]): Series[] {
  const all = [
    { name: "failed calls", colour: "cbad", values: daily(rows, days, (row) => Number(row.failedCalls)) },
    { name: "retries", colour: "c2", values: daily(rows, days, (row) => Number(row.retries)) },
  ];
  return all.filter((series) => series.values.some((value) => value > 0));
}

function daily(rows: UsageRow[], days: string[], measure: Measure): number[] {
  return days.map((day) =>
    sum(
      rows.filter((row) => row.day === day),
      measure,
    ),
  );
}
