import { useRef, useState } from "preact/hooks";
import { createSession, type NewSession as Init, send, sendFirst } from "../conversation/actions.ts";
import { storeOf } from "../conversation/stores.ts";
import type { Template } from "../gen/pointsman/session/v1/template_service_pb.ts";
import { PermissionMode } from "../gen/pointsman/session/v1/turn_pb.ts";
import { defaultModel, rememberModel } from "../state/models.ts";
import { rememberMode } from "../state/modes.ts";
import { go } from "../state/route.ts";
import { Composer } from "./composer.tsx";
import { PageHead } from "./page-head.tsx";
import { TemplateChoice } from "./template-choice.tsx";

/** Prompts that show what an agent can do, also with the demo model. */
const EXAMPLES = [
  "Create hello.py that prints hello world, then run it",
  "What is 17*23?",
  "List the files in the workspace and say what they are for",
];

export function NewSession() {
  const [title, setTitle] = useState("");
  const [account, setAccount] = useState("");
  const [template, setTemplate] = useState<Template>();
  const [chosenModel, setChosenModel] = useState("");
  const [chosenMode, setChosenMode] = useState<PermissionMode>();
  const [prompt, setPrompt] = useState("");
  const made = useRef({ with: "", name: "" });
  const model = chosenModel || template?.preferredModel || defaultModel();
  const mode = chosenMode ?? (template?.options?.permissionMode || PermissionMode.ACCEPT_EDITS);

  /** Makes the session once, also when the prompt that follows fails and is sent again. */
  const make = async (): Promise<string> => {
    const init: Init = { title, account: account || template?.account, model, template: template?.name };
    const key = JSON.stringify(init);
    if (made.current.with !== key) made.current = { with: key, name: "" };
    made.current.name ||= (await createSession(init)) ?? "";
    return made.current.name;
  };
  const enter = (session: string, panel?: "files") => {
    if (chosenModel) rememberModel(session, chosenModel);
    rememberMode(session, mode);
    go({ page: "session", session, panel });
  };
  const start = async (text: string, requestId: string): Promise<boolean> => {
    const choice = { model, mode };
    if (!title.trim() && !template && !made.current.name) {
      const session = await sendFirst(account, text, choice, requestId);
      if (session) enter(session);
      return session !== undefined;
    }
    const session = await make();
    if (!session || !(await send(storeOf(session), text, choice, requestId))) return false;
    enter(session);
    return true;
  };
  const startEmpty = async () => {
    const session = await make();
    if (session) enter(session, "files");
  };

  return (
    <main id="main" class="page new-page" tabIndex={-1}>
      <PageHead title="New session" />
      <div class="new-body">
        <div class="new-intro">
          <h1>What should the agent do?</h1>
          <p class="lead">
            It works in a sandbox with a workspace of its own. You see each step, and can stop it at any time.
          </p>
        </div>
        <Composer
          value={prompt}
          onValue={setPrompt}
          model={model}
          onModel={setChosenModel}
          mode={mode}
          onMode={setChosenMode}
          onSend={start}
          running={false}
          autofocus
        />
        <ul class="examples" aria-label="Examples">
          {EXAMPLES.map((example) => (
            <li key={example}>
              <button
                type="button"
                class="example"
                onClick={() => {
                  setPrompt(example);
                  document.getElementById("prompt")?.focus();
                }}
              >
                {example}
              </button>
            </li>
          ))}
        </ul>
        <TemplateChoice account={account} chosen={template} onChoose={setTemplate} />
        <details class="options">
          <summary>Title and account</summary>
          <div class="options-grid">
            <label class="field">
              <span>Title</span>
              <input
                value={title}
                placeholder="Made from the first prompt"
                onInput={(event) => setTitle(event.currentTarget.value)}
              />
            </label>
            <label class="field">
              <span>Account</span>
              <input
                value={account}
                placeholder="default"
                spellcheck={false}
                autocapitalize="off"
                onInput={(event) => setAccount(event.currentTarget.value)}
              />
            </label>
          </div>
          <p class="hint">
            Turns of one account run one after another.{" "}
            <button type="button" class="link" onClick={startEmpty}>
              Start without a prompt
            </button>{" "}
            to put files into the workspace first.
          </p>
        </details>
      </div>
    </main>
  );
}
