import { SessionStore } from "./store.ts";

/** Stores of the sessions looked at last, so that going back is instant: they resume from their cursors. */
const KEPT = 6;
const kept = new Map<string, SessionStore>();

/** The store of a session: the one of before, if it is still kept. */
export function storeOf(name: string): SessionStore {
  const store = kept.get(name) ?? new SessionStore(name);
  kept.delete(name);
  kept.set(name, store);
  for (const [old, other] of kept) {
    if (kept.size <= KEPT) break;
    other.close();
    kept.delete(old);
  }
  return store;
}

/** Forgets everything read: for signing out, and for a session that was deleted. */
export function forget(name?: string): void {
  for (const [key, store] of kept) {
    if (name && key !== name) continue;
    store.close();
    kept.delete(key);
  }
}
