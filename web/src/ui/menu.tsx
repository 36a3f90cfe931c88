import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "./icons.tsx";

/** A small menu of buttons. It closes by itself when one is used, when the reader turns elsewhere, and on Escape. */
export function Menu({ label, children }: { label: string; children: ComponentChildren }) {
  const element = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = (event: Event) => {
      const menu = element.current;
      if (menu?.open && !(event.target instanceof Node && menu.contains(event.target))) menu.open = false;
    };
    addEventListener("pointerdown", close);
    addEventListener("focusin", close);
    return () => {
      removeEventListener("pointerdown", close);
      removeEventListener("focusin", close);
    };
  }, []);
  const shut = () => {
    if (element.current) element.current.open = false;
  };
  const onClick = (event: MouseEvent) => {
    if (!(event.target instanceof Element && event.target.closest("button"))) return;
    shut();
    // A dialog that the button opens gives focus back to where it was: to something that can still be seen.
    element.current?.querySelector("summary")?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !element.current?.open) return;
    event.stopPropagation();
    shut();
    element.current.querySelector("summary")?.focus();
  };
  return (
    <details class="menu" ref={element} onKeyDown={onKeyDown} onClick={onClick}>
      <summary class="icon-button" aria-label={label} title={label}>
        <Icon name="more" />
      </summary>
      <div class="menu-items">{children}</div>
    </details>
  );
}
