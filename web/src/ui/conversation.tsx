import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Entry, entriesOf } from "../conversation/entries.ts";
import type { SessionStore } from "../conversation/store.ts";
import { route } from "../state/route.ts";
import { Chunk, type Chunked, chunksOf } from "./chunks.tsx";
import { Empty, Spinner } from "./controls.tsx";
import { Icon } from "./icons.tsx";
import { useStickToEnd } from "./stick.ts";
import { EntryView } from "./turn.tsx";

export function Conversation({ store }: { store: SessionStore }) {
  const scroller = useRef<HTMLDivElement>(null);
  const frame = store.frame.value;
  const loaded = store.loaded.value;
  const { stuck, jump } = useStickToEnd(scroller);
  // A turn that waits although nothing runs here is the next one: it is shown where it will be answered.
  const next = !frame.running && frame.queue.length > 0 ? frame.queue.slice(0, 1) : [];
  const entries = useMemo(() => entriesOf([...frame.conversation, ...next]), [frame]);
  const before = useRef<Chunked<Entry>[]>([]);
  const chunks = useMemo(() => chunksOf(entries, before.current), [entries]);
  before.current = chunks;
  const target = useTarget(entries, loaded);

  return (
    <div class="conversation-place">
      <div
        class="conversation"
        ref={scroller}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="Conversation"
        aria-busy={!loaded}
      >
        <div class="conversation-column">
          {store.firstKept.value > 1n && (
            <p class="kept-note">Events before this point are no longer kept.</p>
          )}
          {!loaded && entries.length === 0 && <Loading />}
          {loaded && entries.length === 0 && (
            <Empty icon="agent" title="Nothing said yet">
              Write a prompt below. The agent works in this session's own workspace; drop files into it if it
              needs any.
            </Empty>
          )}
          {chunks.map((chunk, index) => (
            <Chunk
              key={index}
              chunk={chunk}
              scroller={scroller}
              near={index >= chunks.length - 2 || chunk.items.some((entry) => entry.key === target)}
            >
              {(entry) => <EntryView key={entry.key} entry={entry} store={store} />}
            </Chunk>
          ))}
        </div>
      </div>
      {!stuck && (
        <button type="button" class="jump" onClick={jump}>
          <Icon name="down" size={14} /> {frame.running ? "Follow" : "To the end"}
        </button>
      )}
    </div>
  );
}

/** Goes to the turn that the URL names, once it is there. Returns the entry to go to. */
function useTarget(entries: Entry[], loaded: boolean): string | undefined {
  const [done, setDone] = useState<string>();
  const at = route.value;
  const turn = at.page === "session" ? at.turn : undefined;
  const key = turn && turn !== done && loaded ? `${turn}:head` : undefined;
  const there = key !== undefined && entries.some((entry) => entry.key === key);
  useEffect(() => {
    if (!there || !turn) return;
    requestAnimationFrame(() =>
      document.getElementById(`turn-${turn.split("/").at(-1)}`)?.scrollIntoView({ block: "start" }),
    );
    setDone(turn);
  }, [there, turn]);
  return there ? key : undefined;
}

function Loading() {
  return (
    <div class="loading">
      <Spinner label="Reading the conversation" />
      {[70, 92, 54].map((width) => (
        <span key={width} class="skeleton" style={{ width: `${width}%` }} />
      ))}
    </div>
  );
}
