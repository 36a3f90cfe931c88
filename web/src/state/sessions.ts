import { signal } from "@preact/signals";
import { sessions as client } from "../api/clients.ts";
import { type Failure, failureOf } from "../api/failure.ts";
import type { Session } from "../gen/pointsman/session/v1/session_service_pb.ts";
import { signedOut } from "./notices.ts";

const PAGE = 50;
/** How often the list is read again while somebody looks at it. */
const REFRESH_MS = 10_000;

/** The sessions, newest activity first; undefined until they are read. */
export const sessionList = signal<Session[] | undefined>(undefined);
export const sessionListFailure = signal<Failure | undefined>(undefined);
/** Whether the server has more than the list shows. */
export const moreSessions = signal(false);

let wanted = PAGE;

/** Reads as many sessions as are shown. */
export async function readSessions(): Promise<void> {
  try {
    const found: Session[] = [];
    let pageToken = "";
    do {
      const page = await client.listSessions({ pageSize: Math.min(wanted - found.length, 200), pageToken });
      found.push(...page.sessions);
      pageToken = page.nextPageToken;
    } while (pageToken && found.length < wanted);
    sessionList.value = found;
    moreSessions.value = pageToken !== "";
    sessionListFailure.value = undefined;
  } catch (thrown) {
    const failure = failureOf(thrown);
    if (!signedOut(failure)) sessionListFailure.value = failure;
  }
}

export async function readMoreSessions(): Promise<void> {
  wanted += PAGE;
  await readSessions();
}

/** Keeps the list fresh while the page is visible. Returns what ends it. */
export function keepSessionsFresh(): () => void {
  const read = () => {
    if (document.visibilityState === "visible") void readSessions();
  };
  read();
  const timer = setInterval(read, REFRESH_MS);
  document.addEventListener("visibilitychange", read);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", read);
  };
}

/** Puts a session's new record into the list at once. */
export function putSession(session: Session): void {
  const list = sessionList.value ?? [];
  const others = list.filter((other) => other.name !== session.name);
  const known = list.length !== others.length;
  sessionList.value = known
    ? list.map((other) => (other.name === session.name ? session : other))
    : [session, ...others];
}

export function dropSession(name: string): void {
  sessionList.value = sessionList.value?.filter((session) => session.name !== name);
}
