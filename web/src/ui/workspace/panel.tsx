import type { SessionStore } from "../../conversation/store.ts";
import { go, hrefOf, type Panel, route } from "../../state/route.ts";
import { IconButton } from "../controls.tsx";
import { Changes } from "./changes.tsx";
import { Details } from "./details.tsx";
import { Files } from "./files.tsx";
import { Preview } from "./preview.tsx";
import { Snapshots } from "./snapshots.tsx";

const TABS: [Panel, string][] = [
  ["files", "Files"],
  ["changes", "Changes"],
  ["snapshots", "Snapshots"],
  ["details", "Details"],
];

/** The session's files, beside the conversation; over it on a narrow screen. */
export function WorkspacePanel({ store, panel }: { store: SessionStore; panel: Panel }) {
  const at = route.value;
  const path = at.page === "session" ? at.path : undefined;
  return (
    <aside class="panel" aria-label="Workspace">
      <header class="panel-head">
        <nav class="tabs" aria-label="Workspace">
          {TABS.map(([id, name]) => (
            <a
              key={id}
              href={hrefOf({ page: "session", session: store.name, panel: id })}
              aria-current={panel === id ? "page" : undefined}
            >
              {name}
            </a>
          ))}
        </nav>
        <IconButton
          icon="close"
          label="Close the workspace"
          onClick={() => go({ page: "session", session: store.name })}
        />
      </header>
      <div class="panel-body">
        {panel === "files" &&
          (path ? <Preview key={path} store={store} path={path} /> : <Files store={store} />)}
        {panel === "changes" && <Changes store={store} />}
        {panel === "snapshots" && <Snapshots store={store} />}
        {panel === "details" && <Details store={store} />}
      </div>
    </aside>
  );
}
