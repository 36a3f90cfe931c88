import { Code } from "@connectrpc/connect";
import { signal } from "@preact/signals";
import { type Failure, failureOf } from "../api/failure.ts";
import { signOut } from "./credential.ts";

/** A line that appears for a while: something that was asked for failed, or is done. */
export interface Notice {
  id: number;
  text: string;
  advice: string;
  kind: "error" | "done";
}

/** At most this many at once: more would hide the page. The oldest goes first. */
const LIMIT = 3;
const SHOWN_MS = { error: 9_000, done: 4_000 };

export const notices = signal<Notice[]>([]);
let lastId = 0;

export function notify(text: string, kind: Notice["kind"] = "done", advice = ""): void {
  const notice = { id: ++lastId, text, advice, kind };
  notices.value = [...notices.value, notice].slice(-LIMIT);
  setTimeout(() => dismiss(notice.id), SHOWN_MS[kind]);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/** Runs what a person asked for; a failure becomes a notice, a dead credential the sign-in page. */
export async function attempt<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (thrown) {
    const failure = failureOf(thrown);
    if (!signedOut(failure)) notify(`${what}: ${failure.message}`, "error", failure.advice);
    return undefined;
  }
}

/** Signs out when the failure says that the credential is no good; tells whether it did. */
export function signedOut(failure: Failure): boolean {
  if (failure.code !== Code.Unauthenticated) return false;
  signOut(`${failure.message} ${failure.advice}`.trim());
  return true;
}
