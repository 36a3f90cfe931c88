import type { ComponentChildren } from "preact";
import { accounts } from "../../api/clients.ts";
import type { SessionStore } from "../../conversation/store.ts";
import type { Session } from "../../gen/pointsman/session/v1/session_service_pb.ts";
import { hrefOf } from "../../state/route.ts";
import { ago, count, dollars, exactTime } from "../../text/format.ts";
import { sandboxWord } from "../../text/sandbox.ts";
import { visibleLine } from "../../text/visible.ts";
import { Spinner } from "../controls.tsx";
import { useReading } from "../reading.ts";

/** What the session is and what its agent may do, in words and numbers. */
export function Details({ store }: { store: SessionStore }) {
  const session = store.session.value;
  if (!session)
    return (
      <div class="files-reading">
        <Spinner label="Reading the session" />
      </div>
    );
  const [origin, turn] = session.forkedFrom.split("/turns/");
  return (
    <section class="details" aria-label="Details">
      <dl>
        <Fact name="Account">
          {visibleLine(session.account, 63)} <Limit account={session.account} />
        </Fact>
        {session.template && (
          <Fact name="Template">{visibleLine(session.template.replace("templates/", ""))}</Fact>
        )}
        {origin && (
          <Fact name="Forked from">
            <a
              class="link"
              href={hrefOf({ page: "session", session: origin, turn: turn && session.forkedFrom })}
            >
              another session
            </a>
          </Fact>
        )}
        <Fact name="Created">{exactTime(session.createTime)}</Fact>
        <Fact name="Sandbox">
          {sandboxWord(session.sandbox?.state) || "None yet"}
          {session.sandbox?.lastHeartbeatTime && (
            <span class="hint">, seen {ago(session.sandbox.lastHeartbeatTime)}</span>
          )}
        </Fact>
        <Fact name="Used">{used(session)}</Fact>
        <Fact name="Hosts it may reach">
          {session.egressHosts.length === 0
            ? "None: it has no network"
            : session.egressHosts.map((host) => <code key={host}>{visibleLine(host)}</code>)}
        </Fact>
        <Fact name="Shared folders">
          {session.sharedFolders.length === 0
            ? "None"
            : session.sharedFolders.map((folder) => (
                <span key={folder.name} class="shared">
                  <code>/shared/{visibleLine(folder.name)}</code> is{" "}
                  <a class="link" href={hrefOf({ page: "session", session: folder.session, panel: "files" })}>
                    {folder.path ? visibleLine(folder.path) : "all files"} of another session
                  </a>
                </span>
              ))}
        </Fact>
      </dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** How much of the account goes on at once; nothing for a key that may not know. */
function Limit({ account }: { account: string }) {
  const { value } = useReading(
    (signal) => accounts.getAccount({ name: `accounts/${account}` }, { signal }),
    [account],
  );
  const limit = value?.account?.effectiveMaxConcurrentTurns;
  if (!limit) return null;
  return <span class="hint">runs {limit === 1 ? "one turn" : `${limit} turns`} at once</span>;
}

function used(session: Session): string {
  const { usage } = session;
  if (!usage?.modelCalls) return "Nothing yet";
  const read = usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens;
  return [`${count(read)} tokens in, ${count(usage.outputTokens)} out`, dollars(usage.costUsd)]
    .filter(Boolean)
    .join(", ");
}
