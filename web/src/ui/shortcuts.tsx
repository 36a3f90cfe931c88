import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { go, route } from "../state/route.ts";
import { sessionList } from "../state/sessions.ts";
import { Dialog } from "./controls.tsx";

const shown = signal(false);

export function showShortcuts(): void {
  shown.value = true;
}

const LIST: [keys: string[], what: string][] = [
  [["Enter"], "Send the prompt"],
  [["Shift", "Enter"], "New line in the prompt"],
  [["Esc"], "Stop the turn (twice), or close what is open"],
  [["/"], "Go to the prompt"],
  [["Alt", "N"], "New session"],
  [["Alt", "K"], "Find a session"],
  [["Alt", "↑ ↓"], "Session above or below"],
  [["Alt", "A"], "Allow what the agent asks for"],
  [["Alt", "D"], "Deny it"],
  [["Alt", "W"], "Open or close the workspace"],
  [["?"], "This list"],
];

export function Shortcuts() {
  if (!shown.value) return null;
  return (
    <Dialog title="Keyboard" onClose={() => (shown.value = false)}>
      <dl class="shortcuts">
        {LIST.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

/** Keys that work anywhere. Those without Alt do nothing while somebody types. */
export function useShortcuts(): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey) return;
      const typing =
        event.target instanceof HTMLElement &&
        event.target.closest("input, textarea, select, dialog") !== null;
      const action = event.altKey ? withAlt(event.code) : typing ? undefined : alone(event.key);
      if (!action) return;
      event.preventDefault();
      action();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

function alone(key: string): (() => void) | undefined {
  if (key === "?") return showShortcuts;
  if (key === "/") return () => document.querySelector<HTMLElement>("#prompt")?.focus();
  return undefined;
}

function withAlt(code: string): (() => void) | undefined {
  switch (code) {
    case "KeyN":
      return () => go({ page: "new" });
    case "KeyK":
      return () => document.querySelector<HTMLElement>("#find-session")?.focus();
    case "KeyW":
      return toggleWorkspace;
    case "KeyA":
      return () => press("allow");
    case "KeyD":
      return () => press("deny");
    case "ArrowUp":
      return () => step(-1);
    case "ArrowDown":
      return () => step(1);
    default:
      return undefined;
  }
}

/** Presses the button that offers itself under this name, if one does. */
function press(name: string): void {
  document.querySelector<HTMLButtonElement>(`[data-shortcut="${name}"]`)?.click();
}

function toggleWorkspace(): void {
  const at = route.value;
  if (at.page === "session")
    go({ page: "session", session: at.session, panel: at.panel ? undefined : "files" });
}

function step(by: number): void {
  const list = sessionList.value ?? [];
  const at = route.value;
  const index = at.page === "session" ? list.findIndex((session) => session.name === at.session) : -1;
  const next = list[index < 0 ? 0 : index + by];
  if (next) go({ page: "session", session: next.name });
}
