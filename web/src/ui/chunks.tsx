import type { ComponentChild, RefObject } from "preact";
import { memo } from "preact/compat";
import { useEffect, useRef, useState } from "preact/hooks";

/** Rows that are drawn, or left out, together. */
const CHUNK = 24;
/** Pixels above and below the visible part within which rows exist. */
const MARGIN = 1200;
/** Height of a row that was never drawn; the browser's scroll anchoring takes up the difference. */
const ROW_GUESS = 44;

export interface Chunked<Item> {
  items: Item[];
}

/** Cuts a list into chunks. A chunk whose items are all the same objects as before is the same object as before. */
export function chunksOf<Item>(items: Item[], before: Chunked<Item>[]): Chunked<Item>[] {
  const chunks: Chunked<Item>[] = [];
  for (let at = 0; at < items.length; at += CHUNK) {
    const part = items.slice(at, at + CHUNK);
    const old = before[chunks.length];
    const same = old?.items.length === part.length && old.items.every((item, index) => item === part[index]);
    chunks.push(same && old ? old : { items: part });
  }
  return chunks;
}

interface ChunkProps<Item> {
  chunk: Chunked<Item>;
  scroller: RefObject<HTMLElement | null>;
  /** Draw it wherever it is. */
  near: boolean;
  children: (item: Item) => ComponentChild;
}

/** A chunk that exists while it is near the visible part, and is an empty box of the same height otherwise. */
export const Chunk = memo(
  ChunkView,
  (before, after) => before.chunk === after.chunk && before.near === after.near,
) as typeof ChunkView;

function ChunkView<Item>({ chunk, scroller, near, children }: ChunkProps<Item>) {
  const element = useRef<HTMLDivElement>(null);
  const height = useRef(0);
  const [seen, setSeen] = useState(near);
  useEffect(() => {
    const box = element.current;
    if (!box) return;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (!entry) return;
        const holdsFocus = box.contains(document.activeElement);
        if (!entry.isIntersecting) height.current = entry.boundingClientRect.height;
        setSeen(entry.isIntersecting || holdsFocus);
      },
      { root: scroller.current, rootMargin: `${MARGIN}px 0px` },
    );
    observer.observe(box);
    return () => observer.disconnect();
  }, []);
  const drawn = seen || near;
  return (
    <div
      ref={element}
      class="chunk"
      style={drawn ? { height: "" } : { height: `${height.current || chunk.items.length * ROW_GUESS}px` }}
    >
      {drawn && chunk.items.map(children)}
    </div>
  );
}
