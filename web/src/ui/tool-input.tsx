import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { visible, visibleLine } from "../text/visible.ts";
import { PlainText } from "./code.tsx";
import type { IconName } from "./icons.tsx";

interface Description {
  icon: IconName;
  /** What the call is about, in a line. */
  text: string;
  /** What the model says it is for; empty where it does not say. */
  note: string;
}

/** The inputs that say most, per tool; for others the first text that there is. */
const TELLING: Record<string, { icon: IconName; keys: string[] }> = {
  Bash: { icon: "terminal", keys: ["command"] },
  Read: { icon: "file", keys: ["file_path"] },
  Write: { icon: "file", keys: ["file_path"] },
  Edit: { icon: "edit", keys: ["file_path"] },
  NotebookEdit: { icon: "edit", keys: ["notebook_path"] },
  Grep: { icon: "search", keys: ["pattern"] },
  Glob: { icon: "search", keys: ["pattern"] },
  Task: { icon: "agent", keys: ["description", "prompt"] },
  Agent: { icon: "agent", keys: ["description", "prompt"] },
  WebFetch: { icon: "search", keys: ["url"] },
  WebSearch: { icon: "search", keys: ["query"] },
  AskUserQuestion: { icon: "question", keys: [] },
};

export function describeTool(tool: string, input: JsonObject | undefined): Description {
  const telling = TELLING[tool];
  const texts = Object.entries(input ?? {}).filter(
    (entry): entry is [string, string] => typeof entry[1] === "string",
  );
  const key = telling?.keys.find((name) => texts.some(([other]) => other === name));
  const text = key
    ? (texts.find(([name]) => name === key)?.[1] ?? "")
    : (firstQuestion(input) ?? texts[0]?.[1] ?? "");
  const note = key !== "description" && typeof input?.description === "string" ? input.description : "";
  return {
    icon: telling?.icon ?? "tool",
    text: visibleLine(text.replace(/^\/workspace\//, ""), 160),
    note: visibleLine(note, 300),
  };
}

function firstQuestion(input: JsonObject | undefined): string | undefined {
  const questions = input?.questions;
  const first = Array.isArray(questions) ? questions[0] : undefined;
  return typeof first === "object" &&
    first !== null &&
    !Array.isArray(first) &&
    typeof first.question === "string"
    ? first.question
    : undefined;
}

/** What went into a tool: its main text as it is, the rest by name. */
export function ToolInput({ tool, input }: { tool: string; input: JsonObject | undefined }) {
  const main = TELLING[tool]?.keys[0];
  const entries = Object.entries(input ?? {});
  const shown = entries.filter(([name]) => name !== main && name !== "description");
  const first = main ? input?.[main] : undefined;
  return (
    <div class="tool-part">
      {typeof first === "string" && <PlainText text={first} label="Input" tall />}
      {shown.length > 0 && (
        <dl class="inputs">
          {shown.map(([name, value]) => (
            <div key={name}>
              <dt>{visibleLine(name, 60)}</dt>
              <dd>
                {isShort(value) ? (
                  visible(String(value))
                ) : (
                  <PlainText
                    text={typeof value === "string" ? value : JSON.stringify(value, null, 2)}
                    label={name}
                    tall
                  />
                )}
              </dd>
            </div>
          ))}
        </dl>
      )}
      {entries.length === 0 && <p class="diff-note">No input.</p>}
    </div>
  );
}

function isShort(value: JsonValue): boolean {
  return (
    typeof value === "number" ||
    typeof value === "boolean" ||
    value === null ||
    (typeof value === "string" && value.length < 80 && !value.includes("\n"))
  );
}
