import type { ComponentChildren } from "preact";
import { drawer } from "../state/drawer.ts";
import { IconButton } from "./controls.tsx";

/** The bar at the top of each page; on a narrow screen with the way to the list of sessions. */
export function PageHead({ title, children }: { title: ComponentChildren; children?: ComponentChildren }) {
  return (
    <header class="page-head">
      <IconButton icon="menu" label="Sessions" class="only-narrow" onClick={() => (drawer.value = true)} />
      <div class="page-title">{title}</div>
      <div class="page-actions">{children}</div>
    </header>
  );
}
