import { useCallback, useEffect, useState } from "preact/hooks";
import { type Failure, failureOf } from "../api/failure.ts";
import { signedOut } from "../state/notices.ts";

export interface Reading<T> {
  value: T | undefined;
  failure: Failure | undefined;
  again: () => void;
}

/** Reads something, again whenever `when` changes. What was read before stays until the new reading is there. */
export function useReading<T>(read: (signal: AbortSignal) => Promise<T>, when: unknown[]): Reading<T> {
  const [value, setValue] = useState<T>();
  const [failure, setFailure] = useState<Failure>();
  const [round, setRound] = useState(0);
  useEffect(() => {
    const reading = new AbortController();
    read(reading.signal).then(
      (found) => {
        if (reading.signal.aborted) return;
        setValue(found);
        setFailure(undefined);
      },
      (thrown) => {
        if (reading.signal.aborted) return;
        const failed = failureOf(thrown);
        if (!signedOut(failed)) setFailure(failed);
      },
    );
    return () => reading.abort();
  }, [...when, round]);
  return { value, failure, again: useCallback(() => setRound((before) => before + 1), []) };
}
