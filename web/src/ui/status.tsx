import { useEffect, useState } from "preact/hooks";
import { models, sessions, system } from "../api/clients.ts";
import { UsageDimension, type UsageRow } from "../gen/pointsman/llm/v1/model_service_pb.ts";
import { SandboxState } from "../gen/pointsman/session/v1/event_pb.ts";
import type { Session } from "../gen/pointsman/session/v1/session_service_pb.ts";
import type { Diagnostics } from "../gen/pointsman/system/v1/system_service_pb.ts";
import { hrefOf } from "../state/route.ts";
import { ago, bytes, count, dollars, seconds, span } from "../text/format.ts";
import { visibleLine } from "../text/visible.ts";
import { type Series, StackedBars } from "./chart.tsx";
import { Broken, Empty, Spinner } from "./controls.tsx";
import { Icon } from "./icons.tsx";
import { PageHead } from "./page-head.tsx";
import { type Reading, useReading } from "./reading.ts";

const REFRESH_MS = 10_000;
/** Sessions that are counted; those beyond are older than anything that runs. */
const SESSIONS = 200;

export function StatusPage() {
  const [round, setRound] = useState(0);
  const [days, setDays] = useState(14);
  useEffect(() => {
    const timer = setInterval(
      () => document.visibilityState === "visible" && setRound((before) => before + 1),
      REFRESH_MS,
    );
    return () => clearInterval(timer);
  }, []);
  const health = useReading((signal) => system.getHealth({}, { signal }), [round]);
  const insides = useReading(
    (signal) =>
      system.getDebug({}, { signal }).then(
        (answer) => answer.services,
        () => [],
      ),
    [round],
  );
  const list = useReading((signal) => sessions.listSessions({ pageSize: SESSIONS }, { signal }), [round]);
  const usage = useReading((signal) => readUsage(days, signal), [days, Math.floor(round / 6)]);
  return (
    <main id="main" class="page status-page" tabIndex={-1}>
      <PageHead title={<h1>Status</h1>} />
      <div class="status-body">
        <Health health={health} insides={insides.value ?? []} />
        <Work list={list} />
        <section aria-labelledby="usage-title">
          <div class="section-head">
            <h2 id="usage-title">Models</h2>
            <div class="segments" role="group" aria-label="Period">
              {[7, 14, 30].map((each) => (
                <button key={each} type="button" aria-pressed={days === each} onClick={() => setDays(each)}>
                  {each} days
                </button>
              ))}
            </div>
          </div>
          <UsageCharts usage={usage} days={days} />
        </section>
      </div>
    </main>
  );
}

type HealthAnswer = Awaited<ReturnType<typeof system.getHealth>>;

function Health({ health, insides }: { health: Reading<HealthAnswer>; insides: Diagnostics[] }) {
  if (health.failure)
    return (
      <section>
        <h2>Services</h2>
        <Broken
          title="Pointsman does not say how it is"
          text={`${health.failure.message} ${health.failure.advice}`}
          onRetry={health.again}
        />
      </section>
    );
  const services = health.value?.services ?? [];
  return (
    <section aria-labelledby="services-title">
      <div class="section-head">
        <h2 id="services-title">Services</h2>
        {health.value && (
          <span class={`state ${health.value.status}`}>
            {health.value.status === "healthy" ? "All healthy" : "Something is down"}
          </span>
        )}
      </div>
      {!health.value && <Spinner label="Asking the services" />}
      <ul class="service-cards">
        {services.map((each) => {
          const inside = insides.find((other) => other.service === each.service);
          return (
            <li key={each.service} class={each.status}>
              <span class="service-name">
                <i class={`dot ${each.status}`} />
                {each.service}
              </span>
              <span class="service-facts">
                {each.status === "healthy"
                  ? inside
                    ? `up ${span(seconds(inside.uptime))} · ${bytes(inside.memoryBytes)}`
                    : "healthy"
                  : "does not answer"}
              </span>
              {inside?.version && <span class="service-facts">{visibleLine(inside.version, 40)}</span>}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

const SANDBOXES: [string, SandboxState[]][] = [
  ["running", [SandboxState.RUNNING, SandboxState.STARTING]],
  ["idle", [SandboxState.IDLE, SandboxState.READY, SandboxState.RESUMED]],
  ["paused", [SandboxState.PAUSED]],
  ["hibernated", [SandboxState.HIBERNATED]],
];

function Work({ list }: { list: Reading<{ sessions: Session[] }> }) {
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
        <Figure number={all.filter((session) => session.runningTurn).length} name="turns run" />
        <Figure number={all.reduce((sum, session) => sum + session.queuedTurns, 0)} name="prompts wait" />
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

function Figure({ number, name }: { number: number | string; name: string }) {
  return (
    <div class="figure">
      <strong>{number}</strong>
      <span>{name}</span>
    </div>
  );
}

async function readUsage(days: number, signal: AbortSignal): Promise<UsageRow[]> {
  const start = Math.floor(Date.now() / 86_400_000 - days + 1) * 86_400;
  const answer = await models.getUsage(
    { startTime: { seconds: BigInt(start) }, groupBy: [UsageDimension.DAY, UsageDimension.MODEL] },
    { signal },
  );
  return answer.rows;
}

function UsageCharts({ usage, days }: { usage: Reading<UsageRow[]>; days: number }) {
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
