import type { ComponentChild } from "preact";
import { useState } from "preact/hooks";
import type { Row, ToolRow } from "../conversation/rows.ts";
import { PermissionDecision } from "../gen/pointsman/session/v1/event_pb.ts";
import { span } from "../text/format.ts";
import { visibleLine } from "../text/visible.ts";
import { PlainText } from "./code.tsx";
import { Spinner } from "./controls.tsx";
import { DiffView } from "./diff.tsx";
import { Fold } from "./fold.tsx";
import { Icon } from "./icons.tsx";
import { PermissionRecord } from "./permission-record.tsx";
import { describeTool, ToolInput } from "./tool-input.tsx";

/** Draws a row; given from outside, because a tool row may hold rows of its own. */
type DrawRow = (row: Row) => ComponentChild;

/** A diff up to this many characters is open at first, if it is the only one of its call. */
const OPEN_DIFF_CHARACTERS = 6000;

/** One call of a tool: a line that opens to what went in and what came out, with the files it changed below. */
export function ToolView({ row, draw }: { row: ToolRow; draw: DrawRow }) {
  const { icon, text } = describeTool(row.use.tool, row.use.input);
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
              <ToolState row={row} />
            </span>
          </>
        }
      >
        {() => (
          <>
            <ToolInput tool={row.use.tool} input={row.use.input} />
            {row.permission && <PermissionRecord permission={row.permission} />}
            {row.result && !repeatsDenial(row) && <ToolOutput row={row} />}
          </>
        )}
      </Fold>
      {row.children.length > 0 && <SubAgent row={row} draw={draw} />}
      {row.changes.map((change, index) => (
        <DiffView
          key={index}
          change={change}
          open={row.changes.length === 1 && change.diff.length < OPEN_DIFF_CHARACTERS}
        />
      ))}
    </div>
  );
}

/** How the call stands, in a word; empty when it went well at once. */
function ToolState({ row }: { row: ToolRow }) {
  const { permission, result } = row;
  if (!result && permission && !permission.decided) return <span class="waits">waits for you</span>;
  if (!result) return <Spinner label="Running" />;
  const denied = permission?.decided?.decision === PermissionDecision.DENY;
  if (result.isError) return <span class="failed-word">{denied ? "denied" : "failed"}</span>;
  const took = row.endedAt && row.startedAt ? (row.endedAt - row.startedAt) / 1000 : 0;
  return <>{took >= 1 && span(took)}</>;
}

/** Whether what came out is only the reason for which it was denied, which stands above. */
function repeatsDenial({ permission, result }: ToolRow): boolean {
  const decided = permission?.decided;
  return decided?.decision === PermissionDecision.DENY && decided.message === result?.content;
}

function ToolOutput({ row }: { row: ToolRow }) {
  const result = row.result;
  if (!result) return null;
  return (
    <div class="tool-part">
      <p class="tool-part-title">{result.isError ? "Error" : "Output"}</p>
      {result.content ? (
        <PlainText text={result.content} label={result.isError ? "Error" : "Output"} tall />
      ) : (
        <p class="diff-note">Nothing came out.</p>
      )}
      {result.truncated && <p class="diff-note">The rest was too long to keep.</p>}
    </div>
  );
}

/** Rows of a sub-agent that are shown before somebody asks for all of them. */
const LAST_ROWS = 30;

function SubAgent({ row, draw }: { row: ToolRow; draw: DrawRow }) {
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
          {row.children.slice(hidden).map(draw)}
        </div>
      )}
    </Fold>
  );
}
