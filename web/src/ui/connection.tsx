import { useEffect, useState } from "preact/hooks";
import type { Connection } from "../conversation/follow.ts";
import { Icon } from "./icons.tsx";

/** Shorter losses are not worth a word. */
const WORTH_SAYING_MS = 700;

/** Says that the connection is lost, and that it is back. */
export function ConnectionBar({ connection }: { connection: Connection }) {
  const lost = connection.state === "lost";
  const [shown, setShown] = useState(false);
  useEffect(() => {
    if (!lost) return setShown(false);
    const timer = setTimeout(() => setShown(true), WORTH_SAYING_MS);
    return () => clearTimeout(timer);
  }, [lost]);
  return (
    <div class="connection-place" role="status" aria-live="polite">
      {shown && connection.state === "lost" && (
        <div class="connection">
          <Icon name="retry" class="icon spinning" />
          <p>
            <strong>Connection lost, reconnecting.</strong> {connection.failure.message} The agent goes on
            working; nothing is lost.
          </p>
        </div>
      )}
    </div>
  );
}
