import type { Account } from "../../gen/pointsman/session/v1/account_service_pb.ts";
import { visibleLine } from "../../text/visible.ts";
import type { Reading } from "../reading.ts";

/** Accounts that are shown at most: the busiest ones. */
const SHOWN = 12;

/** Accounts that are busy or have a limit of their own: how much goes on, and may. Nothing for a key that may not know. */
export function Accounts({ list }: { list: Reading<Account[]> }) {
  const all = list.value ?? [];
  const weight = (account: Account) => account.queuedTurns * 1000 + account.runningTurns;
  const busy = all.filter((account) => weight(account) > 0 || account.maxConcurrentTurns > 0);
  const shown = busy.sort((a, b) => weight(b) - weight(a)).slice(0, SHOWN);
  if (shown.length === 0) return null;
  return (
    <section aria-labelledby="accounts-title">
      <h2 id="accounts-title">Accounts</h2>
      <div class="table-scroll">
        <table class="accounts">
          <thead>
            <tr>
              <th scope="col">Account</th>
              <th scope="col">Running at once</th>
              <th scope="col">Waiting</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((account) => (
              <tr key={account.name}>
                <th scope="row">{visibleLine(account.name.replace("accounts/", ""))}</th>
                <td>
                  <meter min={0} max={account.effectiveMaxConcurrentTurns} value={account.runningTurns} />{" "}
                  {account.runningTurns} of {account.effectiveMaxConcurrentTurns}
                </td>
                <td>{account.queuedTurns}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {busy.length > SHOWN && (
        <p class="hint">
          The {SHOWN} busiest, out of {busy.length}.
        </p>
      )}
    </section>
  );
}
