import { useRef, useState } from "preact/hooks";
import { createSession, send, sendFirst } from "../conversation/actions.ts";
import { storeOf } from "../conversation/stores.ts";
import { PermissionMode } from "../gen/pointsman/session/v1/turn_pb.ts";
import { defaultModel, rememberModel } from "../state/models.ts";
import { rememberMode } from "../state/modes.ts";
import { go } from "../state/route.ts";
import { Composer } from "./composer.tsx";
import { PageHead } from "./page-head.tsx";

/** Prompts that show what an agent can do, also with the demo model. */
const EXAMPLES = [
  "Create hello.py that prints hello world, then run it",
  "What is 17*23?",
  "List the files in the workspace and say what they are for",
];

export function NewSession() {
  const [title, setTitle] = useState("");
  const [account, setAccount] = useState("");
  const [chosen, setChosen] = useState("");
  const [mode, setMode] = useState(PermissionMode.ACCEPT_EDITS);
  const [prompt, setPrompt] = useState("");
  const made = useRef("");
  const model = chosen || defaultModel();

  /** Makes the session once, also when the prompt that follows fails and is sent again. */
  const make = async (): Promise<string> => {
    made.current ||= (await createSession({ title, account, model })) ?? "";
    return made.current;
  };
  const enter = (session: string, panel?: "files") => {
    if (chosen) rememberModel(session, chosen);
    rememberMode(session, mode);
    go({ page: "session", session, panel });
  };
  const start = async (text: string, requestId: string): Promise<boolean> => {
    const plain = !title.trim() && !made.current;
    const session = plain ? await sendFirst(account, text, { model, mode }, requestId) : await make();
    if (!session || (!plain && !(await send(storeOf(session), text, { model, mode }, requestId))))
      return false;
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
          onModel={setChosen}
          mode={mode}
          onMode={setMode}
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
              Start empty
            </button>{" "}
            to put files into the workspace first.
          </p>
        </details>
      </div>
    </main>
  );
}
