import { signal } from "@preact/signals";

/** Where the reader is. Kept in the URL's fragment, so that any static file server can serve deep links. */
export type Route =
  | { page: "new" }
  | { page: "status" }
  | { page: "session"; session: string; turn?: string; panel?: Panel; path?: string };

export type Panel = "files" | "changes" | "snapshots" | "details";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function parseRoute(hash: string): Route {
  const [head, id, area, ...rest] = hash.replace(/^#\/?/, "").split("/").map(decode);
  if (head === "status") return { page: "status" };
  if (head !== "sessions" || !id || !UUID.test(id)) return { page: "new" };
  const session = `sessions/${id}`;
  if (area === "turns" && rest[0]) return { page: "session", session, turn: `${session}/turns/${rest[0]}` };
  if (area === "files")
    return { page: "session", session, panel: "files", path: rest.join("/") || undefined };
  if (area === "changes" || area === "snapshots" || area === "details")
    return { page: "session", session, panel: area };
  return { page: "session", session };
}

export function hrefOf(route: Route): string {
  if (route.page === "new") return "#/";
  if (route.page === "status") return "#/status";
  if (route.turn) return `#/${route.turn}`;
  if (!route.panel) return `#/${route.session}`;
  const path = route.path ? `/${route.path.split("/").map(encodeURIComponent).join("/")}` : "";
  return `#/${route.session}/${route.panel}${path}`;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = signal<Route>(parseRoute(globalThis.location?.hash ?? ""));

export function go(to: Route): void {
  location.hash = hrefOf(to);
}

globalThis.addEventListener?.("hashchange", () => {
  route.value = parseRoute(location.hash);
});
