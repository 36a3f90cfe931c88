import { timestampMs } from "@bufbuild/protobuf/wkt";
import { useEffect, useState } from "preact/hooks";
import { cancel, chooseModel, fork, remove, rename, send } from "../conversation/actions.ts";
import type { SessionStore } from "../conversation/store.ts";
import { storeOf } from "../conversation/stores.ts";
import { PermissionMode, type Turn } from "../gen/pointsman/session/v1/turn_pb.ts";
import { defaultModel, rememberedModel } from "../state/models.ts";
import { rememberedMode, rememberMode } from "../state/modes.ts";
import { go, route } from "../state/route.ts";
import { count, dollars } from "../text/format.ts";
import { visibleLine } from "../text/visible.ts";
import { Approvals } from "./approval.tsx";
import { Composer } from "./composer.tsx";
import { ConnectionBar } from "./connection.tsx";
import { Ask, Broken, Confirm } from "./controls.tsx";
import { Conversation } from "./conversation.tsx";
import { Icon } from "./icons.tsx";
import { Menu } from "./menu.tsx";
import { PageHead } from "./page-head.tsx";
import { Queue } from "./queue.tsx";
import { WorkspacePanel } from "./workspace/panel.tsx";
import { upload } from "./workspace/transfer.ts";

export function SessionPage({ name }: { name: string }) {
  const store = storeOf(name);
  useEffect(() => {
    store.open();
    return () => store.close();
  }, [store]);
  useTabTitle(store);
  const at = route.value;
  const panel = at.page === "session" ? at.panel : undefined;
  const failure = store.failure.value;
  const [dropping, setDropping] = useState(false);
  const onDrop = async (event: DragEvent) => {
    event.preventDefault();
    setDropping(false);
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length > 0 && (await upload(name, "", files)) > 0)
      go({ page: "session", session: name, panel: "files" });
  };
  return (
    <>
      <main
        id="main"
        class={`page session-page ${dropping ? "dropping" : ""}`}
        tabIndex={-1}
        onDragOver={(event) => {
          event.preventDefault();
          setDropping(true);
        }}
        onDragLeave={(event) => event.currentTarget === event.target && setDropping(false)}
        onDrop={onDrop}
      >
        {failure ? <PageHead title={<h1>Session</h1>} /> : <SessionHead store={store} />}
        <ConnectionBar connection={store.connection.value} />
        {failure ? (
          <Broken
            title="This session cannot be shown"
            text={
              failure.reason === "SESSION_NOT_FOUND" ? failure.advice : `${failure.message} ${failure.advice}`
            }
          />
        ) : (
          <>
            <Conversation store={store} />
            <Dock store={store} />
          </>
        )}
      </main>
      {panel && !failure && <WorkspacePanel key={name} store={store} panel={panel} />}
    </>
  );
}

function SessionHead({ store }: { store: SessionStore }) {
  const [asking, setAsking] = useState<"rename" | "delete">();
  const session = store.session.value;
  const title = visibleLine(session?.title ?? "", 120) || (session ? "Untitled" : "");
  const usage = session?.usage;
  const at = route.value;
  const panelOpen = at.page === "session" && at.panel !== undefined;
  const tokens = usage
    ? usage.inputTokens + usage.outputTokens + usage.cacheReadTokens + usage.cacheWriteTokens
    : 0n;
  const facts = [
    session && session.account !== "default" && session.account,
    tokens > 0n && `${count(tokens)} tokens`,
    dollars(usage?.costUsd ?? 0),
  ].filter(Boolean);
  return (
    <PageHead
      title={
        <>
          <h1 title={title}>{title || <span class="skeleton" />}</h1>
          {facts.length > 0 && <span class="page-facts">{facts.join(" · ")}</span>}
        </>
      }
    >
      <button
        type="button"
        class="button panel-button"
        aria-label="Workspace"
        aria-pressed={panelOpen}
        onClick={() => go({ page: "session", session: store.name, panel: panelOpen ? undefined : "files" })}
      >
        <Icon name="folder" /> <span>Workspace</span>
      </button>
      <Menu label="Session">
        <button type="button" onClick={() => setAsking("rename")}>
          <Icon name="edit" /> Rename
        </button>
        <button type="button" onClick={() => fork(store.name)}>
          <Icon name="fork" /> Fork
        </button>
        <button type="button" class="danger-text" onClick={() => setAsking("delete")}>
          <Icon name="trash" /> Delete
        </button>
      </Menu>
      {asking === "rename" && (
        <Ask
          title="Rename the session"
          label="Title"
          value={session?.title ?? ""}
          action="Rename"
          required
          onSave={(value) => rename(store, value)}
          onClose={() => setAsking(undefined)}
        />
      )}
      {asking === "delete" && (
        <Confirm
          title="Delete this session?"
          text="Its conversation and its files are gone for good. A turn that runs is stopped."
          action="Delete"
          onConfirm={() => remove(store.name)}
          onClose={() => setAsking(undefined)}
        />
      )}
    </PageHead>
  );
}

/** Below the conversation: what waits for the reader, what waits in the queue, and where to say more. */
function Dock({ store }: { store: SessionStore }) {
  const [prompt, setPrompt] = useState("");
  const [chosen, setChosen] = useState(() => rememberedMode(store.name));
  const { running, queue, pending } = store.frame.value;
  const model = store.session.value?.preferredModel || rememberedModel(store.name) || defaultModel();
  // Where this browser has never chosen, what the newest turn ran with: so a session that asks first goes on asking.
  const mode =
    chosen ??
    (newestTurn(store)?.options?.permissionMode ||
      store.session.value?.defaultOptions?.permissionMode ||
      PermissionMode.ACCEPT_EDITS);
  const chooseMode = (value: PermissionMode) => {
    setChosen(value);
    rememberMode(store.name, value);
  };
  const stop = () => running && cancel(running.name);
  useEscapeTwice(stop);
  return (
    <div class="dock">
      {pending.length > 0 && <Approvals pending={pending} />}
      {queue.length > (running ? 0 : 1) && <Queue store={store} queue={queue} />}
      <Composer
        value={prompt}
        onValue={setPrompt}
        model={model}
        onModel={(value) => chooseModel(store, value)}
        mode={mode}
        onMode={chooseMode}
        onSend={(text, requestId) => send(store, text, { model, mode }, requestId)}
        onStop={stop}
        running={running !== undefined}
        autofocus
      />
    </div>
  );
}

function newestTurn(store: SessionStore): Turn | undefined {
  const at = (turn: Turn) => (turn.createTime ? timestampMs(turn.createTime) : 0);
  return [...store.turns.value.values()].reduce<Turn | undefined>(
    (newest, turn) => (newest && at(newest) > at(turn) ? newest : turn),
    undefined,
  );
}

/** Escape twice within a second stops; once is too easily pressed. */
function useEscapeTwice(stop: () => void): void {
  useEffect(() => {
    let last = 0;
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
      if (event.timeStamp - last < 1000) stop();
      last = event.timeStamp;
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
}

/** The tab says what happens in it, also when another one is in front. */
function useTabTitle(store: SessionStore): void {
  const { pending, running } = store.frame.value;
  const title = visibleLine(store.session.value?.title ?? "", 60) || "Session";
  const sign = pending.length > 0 ? "❗ " : running ? "● " : "";
  useEffect(() => {
    document.title = `${sign}${title} · Pointsman`;
    return () => {
      document.title = "Pointsman";
    };
  }, [sign, title]);
}
