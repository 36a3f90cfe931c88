import { useMemo, useState } from "preact/hooks";
import { type FileChange, FileChangeType } from "../gen/pointsman/session/v1/event_pb.ts";
import { type DiffLine, parseDiff } from "../text/diff.ts";
import { visible, visibleLine } from "../text/visible.ts";
import { Icon } from "./icons.tsx";

/** Lines that are shown before somebody asks for more, and then each time: what a page lays out without a pause. */
const FIRST_LINES = 120;
const MORE_LINES = 2500;
/** Longest line that is laid out; the file itself has all of it. */
const LINE_CHARACTERS = 2000;

export function changeWord(type: FileChangeType): string {
  if (type === FileChangeType.CREATED) return "new";
  return type === FileChangeType.DELETED ? "deleted" : "changed";
}

export function DiffView({ change, open = true }: { change: FileChange; open?: boolean }) {
  const diff = useMemo(() => parseDiff(change.diff), [change.diff]);
  const [most, setMost] = useState(FIRST_LINES);
  const shown = diff.lines.slice(0, most);
  const hidden = diff.lines.length - shown.length;
  return (
    <details class="diff" open={open}>
      <summary>
        <Icon name="chevron" size={12} class="icon turn-chevron" />
        <Icon name="file" size={14} />
        <span class="diff-path">{visibleLine(change.path)}</span>
        <span class="diff-count">
          <span class="diff-word">{changeWord(change.type)}</span>
          {diff.added > 0 && <span class="added">+{diff.added}</span>}
          {diff.removed > 0 && <span class="removed">−{diff.removed}</span>}
        </span>
      </summary>
      {diff.lines.length === 0 ? (
        <p class="diff-note">
          {change.type === FileChangeType.DELETED
            ? "The file is gone."
            : "A binary file, or nothing to compare."}
        </p>
      ) : (
        <div
          class="diff-lines"
          tabIndex={0}
          role="region"
          aria-label={`Changes in ${visibleLine(change.path)}`}
          dir="ltr"
        >
          <div class="diff-sheet">
            {shown.map((line, index) => (
              <Line key={index} line={line} />
            ))}
          </div>
        </div>
      )}
      {hidden > 0 && (
        <button type="button" class="more" onClick={() => setMost(most + MORE_LINES)}>
          {hidden > MORE_LINES
            ? `Show ${MORE_LINES.toLocaleString()} more of ${diff.lines.length.toLocaleString()} lines`
            : `Show all ${diff.lines.length.toLocaleString()} lines`}
        </button>
      )}
      {change.truncated && (
        <p class="diff-note">The rest of this change was too long to keep; the file has all of it.</p>
      )}
    </details>
  );
}

const SIGN = { added: "+", removed: "−", same: " ", hunk: "", note: "" };

function Line({ line }: { line: DiffLine }) {
  return (
    <div class={`diff-line ${line.kind}`}>
      <span class="diff-number">{line.kind === "hunk" ? "⋯" : (line.after ?? line.before ?? "")}</span>
      <span class="diff-sign">{SIGN[line.kind]}</span>
      <span class="diff-text">
        {visible(line.text.slice(0, LINE_CHARACTERS))}
        {line.text.length > LINE_CHARACTERS && " …"}
      </span>
    </div>
  );
}
