/** Waits, but not past the moment in which the network comes back or somebody looks. */
export function pauseUntilHope(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const events = new AbortController();
    const done = () => {
      clearTimeout(timer);
      events.abort();
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done, { signal: events.signal });
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && done(), {
      signal: events.signal,
    });
    signal.addEventListener("abort", done, { signal: events.signal });
  });
}
