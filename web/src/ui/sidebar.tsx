import { useState } from "preact/hooks";
import type { Session } from "../gen/pointsman/session/v1/session_service_pb.ts";
import { signOut } from "../state/credential.ts";
import { drawer } from "../state/drawer.ts";
import { hrefOf, route } from "../state/route.ts";
import {
  moreSessions,
  readMoreSessions,
  readSessions,
  sessionList,
  sessionListFailure,
} from "../state/sessions.ts";
import { nextTheme, theme } from "../state/theme.ts";
import { ago, dollars, exactTime } from "../text/format.ts";
import { visibleLine } from "../text/visible.ts";
import { Broken, Empty, IconButton } from "./controls.tsx";
import { Icon, Mark } from "./icons.tsx";
import { showShortcuts } from "./shortcuts.tsx";

export function Sidebar() {
  return (
    <aside class="sidebar" aria-label="Sessions">
      <header class="sidebar-head">
        <a class="brand" href={hrefOf({ page: "new" })}>
          <Mark /> Pointsman
        </a>
        <IconButton
          icon="close"
          label="Close the list"
          class="only-narrow"
          onClick={() => (drawer.value = false)}
        />
      </header>
      <a
        class="button new-session"
        href={hrefOf({ page: "new" })}
        aria-current={route.value.page === "new" ? "page" : undefined}
      >
        <Icon name="add" /> New session
      </a>
      <SessionList />
      <footer class="sidebar-foot">
        <a
          class="foot-link"
          href={hrefOf({ page: "status" })}
          aria-current={route.value.page === "status" ? "page" : undefined}
        >
          <Icon name="status" /> Status
        </a>
        <IconButton icon="question" label="Keyboard shortcuts" onClick={showShortcuts} />
        <IconButton icon={theme.value} label={`Colours: ${theme.value}. Change`} onClick={nextTheme} />
        <IconButton icon="out" label="Sign out" onClick={() => signOut()} />
      </footer>
    </aside>
  );
}

function SessionList() {
  const [wanted, setWanted] = useState("");
  const list = sessionList.value;
  const found = list?.filter((session) =>
    `${session.title} ${session.account}`.toLowerCase().includes(wanted.toLowerCase()),
  );
  return (
    <>
      <label class="find">
        <Icon name="search" size={14} />
        <input
          id="find-session"
          type="search"
          placeholder="Find a session"
          aria-label="Find a session"
          value={wanted}
          onInput={(event) => setWanted(event.currentTarget.value)}
        />
      </label>
      <nav class="session-list" aria-label="Your sessions">
        {!list && sessionListFailure.value && (
          <Broken
            title="The sessions could not be read"
            text={`${sessionListFailure.value.message} ${sessionListFailure.value.advice}`}
            onRetry={readSessions}
          />
        )}
        {!list && !sessionListFailure.value && (
          <div class="skeleton-list" aria-label="Reading the sessions" role="status">
            {[1, 2, 3, 4].map((line) => (
              <span key={line} class="skeleton" />
            ))}
          </div>
        )}
        {list?.length === 0 && (
          <Empty icon="agent" title="No sessions yet">
            Give an agent something to do, and it appears here.
          </Empty>
        )}
        {list && list.length > 0 && found?.length === 0 && (
          <Empty icon="search" title="None found">
            No session's title has “{visibleLine(wanted, 40)}” in it.
          </Empty>
        )}
        <ul>
          {found?.map((session) => (
            <Entry key={session.name} session={session} />
          ))}
        </ul>
        {moreSessions.value && (
          <button type="button" class="more" onClick={readMoreSessions}>
            Show older sessions
          </button>
        )}
      </nav>
    </>
  );
}

function Entry({ session }: { session: Session }) {
  const at = route.value;
  const current = at.page === "session" && at.session === session.name;
  const cost = dollars(session.usage?.costUsd ?? 0);
  const details = [
    session.account !== "default" && session.account,
    session.queuedTurns > 0 && `${session.queuedTurns} waiting`,
    cost,
  ].filter(Boolean);
  return (
    <li>
      <a
        class="entry"
        href={hrefOf({ page: "session", session: session.name })}
        aria-current={current ? "page" : undefined}
      >
        <span class="entry-title">{visibleLine(session.title, 80) || "Untitled"}</span>
        <span class="entry-side">
          {session.runningTurn ? (
            <span class="pulse" role="img" aria-label="A turn is running" />
          ) : (
            <time title={exactTime(session.lastActivityTime)}>{ago(session.lastActivityTime)}</time>
          )}
        </span>
        {details.length > 0 && <span class="entry-details">{details.join(" · ")}</span>}
      </a>
    </li>
  );
}
