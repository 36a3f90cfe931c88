import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { useState } from "preact/hooks";
import type { Permission, ToolRow } from "../conversation/rows.ts";
import { PermissionDecision } from "../gen/pointsman/session/v1/event_pb.ts";
import { span } from "../text/format.ts";
import { visible, visibleLine } from "../text/visible.ts";
import { PlainText } from "./code.tsx";
import { Spinner } from "./controls.tsx";
import { DiffView } from "./diff.tsx";
import { Fold } from "./fold.tsx";
import { Icon, type IconName } from "./icons.tsx";
import { RowView } from "./row.tsx";

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

/** One call of a tool: a line that opens to what went in and what came out, with the files it changed below. */
export function ToolView({ row }: { row: ToolRow }) {
  const { icon, text } = describeTool(row.use.tool, row.use.input);
  const waits = row.permission && !row.permission.decided && !row.result;
  const denied = row.permission?.decided?.decision === PermissionDecision.DENY;
  const took = row.endedAt && row.startedAt ? (row.endedAt - row.startedAt) / 1000 : 0;
  return (
    <div class="tool">
      <Fold
        id={row.key}
        class={row.result?.isError ? "tool-line failed" : "tool-line"}
        head={
          <>
            <Icon name={icon} size={14} />
            <span class="tool-name">{visibleLine(row.use.tool, 60)}</span>
            <span class="tool-text" dir="ltr">
              {text}
            </span>
            <span class="tool-state">
              {waits ? (
                <span class="waits">waits for you</span>
              ) : row.result ? (
                row.result.isError ? (
                  <span class="failed-word">{denied ? "denied" : "failed"}</span>
                ) : took >= 1 ? (
                  span(took)
                ) : (
                  ""
                )
              ) : (
                <Spinner label="Running" />
              )}
            </span>
          </>
        }
      >
        {() => (
          <>
            <ToolInput tool={row.use.tool} input={row.use.input} />
            {row.permission && <PermissionRecord permission={row.permission} />}
            {row.result && <ToolOutput row={row} />}
          </>
        )}
      </Fold>
      {row.children.length > 0 && <SubAgent row={row} />}
      {row.changes.map((change, index) => (
        <DiffView key={index} change={change} open={row.changes.length === 1 && change.diff.length < 6000} />
      ))}
    </div>
  );
}

function ToolOutput({ row }: { row: ToolRow }) {
  const result = row.result;
  if (!result) return null;
  return (
    <div class="tool-part">
      <h3>{result.isError ? "Error" : "Output"}</h3>
      {result.content ? (
        <PlainText text={result.content} label={result.isError ? "Error" : "Output"} tall />
      ) : (
        <p class="diff-note">Nothing came out.</p>
      )}
      {result.truncated && <p class="diff-note">The rest was too long to keep.</p>}
    </div>
  );
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

const DECISIONS: Partial<Record<PermissionDecision, string>> = {
  [PermissionDecision.ALLOW]: "Allowed",
  [PermissionDecision.ALLOW_FOR_SESSION]: "Allowed for this session",
  [PermissionDecision.DENY]: "Denied",
};

export function PermissionRecord({ permission }: { permission: Permission }) {
  const { decided, request } = permission;
  if (!decided)
    return (
      <p class="permission-record waits">{visibleLine(request.tool, 60)} waits for a decision, below.</p>
    );
  const by = decided.timedOut
    ? "because nobody decided in time"
    : decided.principal && `by ${visibleLine(decided.principal, 80)}`;
  return (
    <p class="permission-record">
      {DECISIONS[decided.decision] ?? "Decided"} {by}
      {decided.message && `: ${visibleLine(decided.message, 300)}`}
    </p>
  );
}

/** Rows of a sub-agent that are shown before somebody asks for all of them. */
const LAST_ROWS = 30;

function SubAgent({ row }: { row: ToolRow }) {
  const [all, setAll] = useState(false);
  const kind = row.use.input?.subagent_type;
  const hidden = all ? 0 : Math.max(0, row.children.length - LAST_ROWS);
  return (
    <Fold
      id={`${row.key}:children`}
      class="sub-agent"
      open={row.result === undefined}
      head={
        <>
          <Icon name="agent" size={14} /> Sub-agent{typeof kind === "string" && ` ${visibleLine(kind, 40)}`}
          <span class="thinking-hint">
            {row.children.length} {row.children.length === 1 ? "step" : "steps"}
          </span>
        </>
      }
    >
      {() => (
        <div class="sub-rows">
          {hidden > 0 && (
            <button type="button" class="more" onClick={() => setAll(true)}>
              Show {hidden} earlier steps
            </button>
          )}
          {row.children.slice(hidden).map((child) => (
            <RowView key={child.key} row={child} />
          ))}
        </div>
      )}
    </Fold>
  );
}
