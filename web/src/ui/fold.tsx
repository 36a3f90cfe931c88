import type { ComponentChild } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "./icons.tsx";

/** What the reader opened or closed, by row: rows out of sight do not exist, and are to come back as they were. */
const opened = new Map<string, boolean>();
/** More than anybody opens by hand; the oldest is forgotten first. */
const REMEMBERED = 2000;

/** A line that opens. What is inside is made only when it is open. */
export function Fold(props: {
  id: string;
  head: ComponentChild;
  class?: string;
  open?: boolean;
  children: () => ComponentChild;
}) {
  const [open, setOpen] = useState(opened.get(props.id) ?? props.open ?? false);
  const toggle = (event: MouseEvent) => {
    event.preventDefault();
    setOpen(!open);
    opened.delete(props.id);
    opened.set(props.id, !open);
    const oldest = opened.keys().next().value;
    if (opened.size > REMEMBERED && oldest !== undefined) opened.delete(oldest);
  };
  return (
    <details class={`fold ${props.class ?? ""}`} open={open}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: a summary is a button to browsers and readers alike */}
      <summary onClick={toggle}>
        <Icon name="chevron" size={12} class="icon turn-chevron" />
        {props.head}
      </summary>
      {open && <div class="fold-body">{props.children()}</div>}
    </details>
  );
}
