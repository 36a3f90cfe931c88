import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** This close to the end counts as being there. */
const NEAR_PIXELS = 32;

/**
 * Keeps a scroller at its end while it grows, as long as the reader is there. Whoever scrolls up, or selects text,
 * is left alone until they come back by themselves or by `jump`.
 */
export function useStickToEnd(scroller: RefObject<HTMLElement | null>): { stuck: boolean; jump: () => void } {
  const [stuck, setStuck] = useState(true);
  const wanted = useRef(true);
  const lastTop = useRef(0);

  const set = (value: boolean) => {
    wanted.current = value;
    setStuck(value);
  };
  const toEnd = (element: HTMLElement) => {
    element.scrollTop = element.scrollHeight;
    lastTop.current = element.scrollTop;
  };

  useEffect(() => {
    const element = scroller.current;
    const content = element?.firstElementChild;
    if (!element || !content) return;
    const onScroll = () => {
      const distance = element.scrollHeight - element.scrollTop - element.clientHeight;
      if (distance < NEAR_PIXELS) set(true);
      else if (element.scrollTop < lastTop.current - 1) set(false);
      lastTop.current = element.scrollTop;
    };
    const onWheel = (event: WheelEvent) => {
      if (event.deltaY < 0 && element.scrollTop > 0) set(false);
    };
    const observer = new ResizeObserver(() => {
      if (wanted.current && !isSelecting(element)) toEnd(element);
    });
    observer.observe(content);
    observer.observe(element);
    element.addEventListener("scroll", onScroll, { passive: true });
    element.addEventListener("wheel", onWheel, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", onScroll);
      element.removeEventListener("wheel", onWheel);
    };
  }, []);

  const jump = () => {
    set(true);
    if (scroller.current) toEnd(scroller.current);
  };
  return { stuck, jump };
}

function isSelecting(element: HTMLElement): boolean {
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && element.contains(selection.anchorNode);
}
