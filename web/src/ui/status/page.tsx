import { useEffect, useState } from "preact/hooks";
import { accounts, sessions, system } from "../../api/clients.ts";
import { PageHead } from "../page-head.tsx";
import { useReading } from "../reading.ts";
import { Accounts } from "./accounts.tsx";
import { Health } from "./health.tsx";
import { readUsage, Usage } from "./usage.tsx";
import { Work } from "./work.tsx";

const REFRESH_MS = 10_000;
/** Sessions that are counted; those beyond are older than anything that runs. */
const SESSIONS = 200;
/** Accounts that are looked through for the busiest. */
const ACCOUNTS = 200;

/** How the installation stands, read again every few seconds while somebody looks. */
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
  const limits = useReading(
    (signal) =>
      accounts.listAccounts({ pageSize: ACCOUNTS }, { signal }).then(
        (answer) => answer.accounts,
        () => [],
      ),
    [round],
  );
  const usage = useReading((signal) => readUsage(days, signal), [days, Math.floor(round / 6)]);
  return (
    <main id="main" class="page status-page" tabIndex={-1}>
      <PageHead title={<h1>Status</h1>} />
      <div class="status-body">
        <Health health={health} insides={insides.value ?? []} />
        <Work list={list} />
        <Accounts list={limits} />
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
          <Usage usage={usage} days={days} />
        </section>
      </div>
    </main>
  );
}
