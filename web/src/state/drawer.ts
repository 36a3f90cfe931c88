import { signal } from "@preact/signals";

/** Whether the list of sessions is open where there is no room for it beside the page. */
export const drawer = signal(false);
