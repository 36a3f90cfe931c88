import { randomUUID } from "node:crypto";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { ErrorReason } from "../../src/gen/pointsman/errors/v1/errors_pb.ts";
import {
  FileChangeType,
  PermissionDecidedSchema,
  type PermissionDecision,
  SandboxState,
} from "../../src/gen/pointsman/session/v1/event_pb.ts";
import { type Turn, TurnRoute, TurnState } from "../../src/gen/pointsman/session/v1/turn_pb.ts";
import { Failed, Stage, sleep } from "./stage.ts";
import type { ScriptedSession } from "./world.ts";

/** Runs a turn by the script that its prompt names, and finishes it. */
export async function perform(session: ScriptedSession, turn: Turn): Promise<void> {
  const stage = new Stage(session, turn);
  turn.state = TurnState.RUNNING;
  turn.position = 0;
  session.number();
  session.record.runningTurn = turn.name;
  const begun = Date.now();
  const direct = /2\s*\+\s*2/.test(turn.prompt);
  const route = direct ? TurnRoute.DIRECT : TurnRoute.AGENT;
  session.emit(turn.name, {
    case: "triageDecided",
    value: {
      route,
      decidedBy: "rules",
      reason: direct ? "A sum needs no tools." : "It asks for files to be made.",
      confidence: 0.93,
      duration: { nanos: 4_000_000 },
    },
  });
  session.emit(turn.name, {
    case: "turnStarted",
    value: { model: turn.model, route, queuedFor: { nanos: 12_000_000 } },
  });
  if (!direct && session.turns.length === 1) {
    session.emit(turn.name, {
      case: "sandboxChanged",
      value: { state: SandboxState.READY, duration: { nanos: 241_000_000 }, pooled: true },
    });
  }
  let outcome = TurnState.SUCCEEDED;
  let error: Failed["error"] | undefined;
  try {
    const script = SCRIPTS.find(([pattern]) => pattern.test(turn.prompt))?.[1] ?? talk;
    await script(stage);
  } catch (thrown) {
    if (!(thrown instanceof Failed)) throw thrown;
    error = thrown.error;
    outcome = error.reason === ErrorReason.TURN_CANCELLED ? TurnState.CANCELLED : TurnState.FAILED;
  }
  const usage = {
    inputTokens: 1840n,
    outputTokens: 412n,
    cacheReadTokens: 9200n,
    costUsd: 0.0137,
    modelCalls: 3,
  };
  session.emit(turn.name, { case: "usage", value: { model: turn.model, usage } });
  turn.state = outcome;
  session.record.runningTurn = "";
  session.spend(usage.costUsd);
  session.emit(turn.name, {
    case: "turnFinished",
    value: {
      outcome,
      result: "",
      error,
      usage,
      duration: {
        seconds: BigInt(Math.floor((Date.now() - begun) / 1000)),
        nanos: ((Date.now() - begun) % 1000) * 1e6,
      },
      toolRan: !direct,
    },
  });
}

const HELLO_DIFF =
  '--- /dev/null\n+++ b/hello.py\n@@ -0,0 +1,6 @@\n+import sys\n+\n+\n+def greet(name: str) -> str:\n+    return f"Hello, {name}!"\n+\n';
const EDIT_DIFF =
  "--- a/src/app.py\n+++ b/src/app.py\n@@ -12,7 +12,8 @@ def main() -> None:\n     args = parse()\n-    connection = connect(args.url)\n-    connection.timeout = 5\n+    connection = connect(args.url, timeout=args.timeout)\n+    connection.ping()\n     for row in connection.rows():\n         print(row)\n";

const MARKDOWN = `I've made \`hello.py\` and ran it. Here is what it does:

1. **Reads** the name from the command line, with \`world\` as the default.
2. **Greets** it.

\`\`\`python
def greet(name: str) -> str:
    """Returns a friendly line."""
    return f"Hello, {name}!"
\`\`\`

| Case | Output |
| --- | --- |
| no argument | \`Hello, world!\` |
| \`Ada\` | \`Hello, Ada!\` |

> It exits with status 0 in both cases. See [the documentation](https://docs.python.org/3/) for *argparse* when you need more.
`;

async function talk(stage: Stage): Promise<void> {
  if (/2\s*\+\s*2/.test(stage.turn.prompt)) return stage.say("4", { pace: 30 });
  await stage.say("The reader wants a short answer. I know this one, so no tool is needed.", {
    thinking: true,
  });
  await stage.say(MARKDOWN, { pace: 8 });
}

async function makeHello(stage: Stage): Promise<void> {
  await stage.say("I'll write the file first, then run it to be sure.", { thinking: true });
  await stage.say("I'll write it and then run it.");
  await stage.write(
    "hello.py",
    'import sys\n\n\ndef greet(name: str) -> str:\n    return f"Hello, {name}!"\n',
    HELLO_DIFF,
  );
  await stage.tool("Bash", { command: "python3 hello.py", description: "Run it" }, "Hello, world!\n");
  await stage.write("src/app.py", "…", EDIT_DIFF, FileChangeType.MODIFIED);
  await stage.tool("Grep", { pattern: "TODO", path: "/workspace" }, "No matches found", { ms: 80 });
  await stage.tool("Bash", { command: "pytest -q" }, "E   assert 1 == 2\n1 failed in 0.02s", {
    isError: true,
  });
  await stage.say(MARKDOWN, { pace: 6 });
}

async function askFirst(stage: Stage): Promise<void> {
  await stage.say("That removes files, so I ask first.");
  const { allowed, message } = await stage.ask("Bash", {
    command: "rm -rf build/ dist/ && make release VERSION=1.4.0",
    description: "Clean and build the release",
  });
  await stage.say(
    allowed ? "Done: the release is built." : `I leave it, then. You said: ${message || "nothing"}`,
  );
}

async function question(stage: Stage): Promise<void> {
  const { input } = await stage.ask("AskUserQuestion", {
    questions: [
      {
        question: "Which database should it use?",
        header: "Database",
        multiSelect: false,
        options: [
          { label: "SQLite", description: "One file, nothing to install" },
          { label: "PostgreSQL", description: "For more than one machine" },
        ],
      },
      {
        question: "Which extras?",
        header: "Extras",
        multiSelect: true,
        options: [
          { label: "Tests", description: "With pytest" },
          { label: "Docs", description: "A short README" },
        ],
      },
    ],
  });
  await stage.say(`You chose: \`${JSON.stringify(input?.answers ?? {})}\``);
}

async function slow(stage: Stage): Promise<void> {
  await stage.say(
    Array.from({ length: 400 }, (_, index) => `Line ${index + 1} of a long answer.`).join("\n\n"),
    { pace: 25, size: 8 },
  );
}

async function fail(stage: Stage): Promise<void> {
  for (const attempt of [1, 2]) {
    stage.session.emit(stage.turn.name, {
      case: "modelRetry",
      value: {
        attempt,
        maxAttempts: 3,
        delay: { seconds: BigInt(attempt) },
        status: 529,
        message: "The provider is overloaded",
      },
    });
    await sleep(300);
  }
  throw new Failed({
    reason: ErrorReason.PROVIDER_UNAVAILABLE,
    message: "The provider groq is overloaded (status 529, 3 attempts).",
    metadata: { model: "groq/llama", status: "529" },
  });
}

async function subagent(stage: Stage): Promise<void> {
  await stage.say("I hand the search to a helper.");
  const id = `toolu_${randomUUID()}`;
  stage.use(id, "Task", {
    description: "Find every caller",
    subagent_type: "explorer",
    prompt: "Find every caller of greet().",
  });
  await stage.say("Looking for callers.", { parent: id });
  await stage.tool("Grep", { pattern: "greet\\(", path: "/workspace" }, "hello.py:4\nsrc/app.py:20", {
    parent: id,
  });
  await stage.tool("Read", { file_path: "/workspace/src/app.py" }, "def main(): ...", { parent: id });
  await stage.say("Two callers.", { parent: id });
  stage.result(id, "Two callers: hello.py:4 and src/app.py:20.");
  await stage.say("There are two callers.");
}

export const HOSTILE = `<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>

[click](javascript:window.pwned=3) <a href="javascript:window.pwned=4">link</a> ![x](javascript:window.pwned=5) ![remote](https://evil.example/p.png)

\u001b[31mred\u001b[0m \u001b]0;title\u0007 and \u202Eevil\u202C bidi, [data](data:text/html,<script>window.pwned=6</script>)

<svg onload=window.pwned=7><iframe srcdoc="<script>parent.pwned=8</script>"></iframe>
`;

async function hostile(stage: Stage): Promise<void> {
  await stage.say(HOSTILE, { pace: 1 });
  await stage.tool("Bash", { command: `echo '<img src=x onerror=alert(1)>' \u202E; rm -rf /` }, HOSTILE);
}

async function hugeLine(stage: Stage): Promise<void> {
  await stage.say("x".repeat(1024 * 1024), { pace: 1, size: 16384 });
}

async function manyLines(stage: Stage): Promise<void> {
  await stage.say(Array.from({ length: 100_000 }, (_, index) => `line ${index}`).join("\n"), {
    pace: 1,
    size: 32768,
  });
}

async function long(stage: Stage): Promise<void> {
  for (let index = 0; index < 3300; index++) {
    const id = `toolu_${index}`;
    stage.use(id, "Bash", { command: `echo ${index}` });
    stage.result(id, `${index}\n`);
    stage.session.emit(stage.turn.name, {
      case: "assistantMessage",
      value: { text: `Step **${index}** is done; \`echo ${index}\` said so.`, messageId: `m${index}` },
    });
    if (index % 500 === 499) await sleep(1);
  }
}

/** A new file of 2,000 lines, as one diff. */
async function longDiff(stage: Stage): Promise<void> {
  const lines = Array.from({ length: 2000 }, (_, index) => `value_${index} = compute(${index})`);
  const diff = `--- /dev/null\n+++ b/table.py\n@@ -0,0 +1,2000 @@\n${lines.map((line) => `+${line}\n`).join("")}`;
  await stage.write("table.py", `${lines.join("\n")}\n`, diff);
}

const SCRIPTS: [RegExp, (stage: Stage) => Promise<void>][] = [
  [/hello\.py/i, makeHello],
  [/release|permission/i, askFirst],
  [/question/i, question],
  [/slow/i, slow],
  [/fail/i, fail],
  [/sub-?agent|callers/i, subagent],
  [/hostile/i, hostile],
  [/huge line/i, hugeLine],
  [/many lines/i, manyLines],
  [/10,000/i, long],
  [/2,000 lines/i, longDiff],
];

export function decided(
  permissionId: string,
  decision: PermissionDecision,
  message: string,
  updatedInput?: JsonObject,
) {
  return create(PermissionDecidedSchema, {
    permissionId,
    decision,
    message,
    updatedInput,
    principal: "key:dev",
  });
}
