import { memo } from "preact/compat";
import type { Row } from "../conversation/rows.ts";
import { Answer, Thinking } from "./answer.tsx";
import { DiffView } from "./diff.tsx";
import { ContextNote, RetryNote, SandboxNote, TriageNote, WarningNote } from "./note.tsx";
import { PermissionRecord } from "./permission-record.tsx";
import { ToolView } from "./tool.tsx";

/** One row of a turn. Rows are replaced, not changed, so one that is the same object looks the same. */
export const RowView = memo(function RowView({ row }: { row: Row }) {
  switch (row.kind) {
    case "retry":
      return <RetryNote row={row} />;
    case "sandbox":
      return <SandboxNote row={row} />;
    case "triage":
      return <TriageNote row={row} />;
    case "context":
      return <ContextNote row={row} />;
    case "warning":
      return <WarningNote row={row} />;
    default:
      return (
        <div class="row">
          <Content row={row} />
        </div>
      );
  }
});

function Content({ row }: { row: Row }) {
  switch (row.kind) {
    case "text":
      return <Answer row={row} />;
    case "thinking":
      return <Thinking row={row} />;
    case "tool":
      return <ToolView row={row} draw={(child) => <RowView key={child.key} row={child} />} />;
    case "change":
      return <DiffView change={row.change} open={false} />;
    case "permission":
      return <PermissionRecord permission={row.permission} />;
    default:
      return null;
  }
}
