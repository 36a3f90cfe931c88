/** One line of a unified diff, with its place in the old and the new file. */
export interface DiffLine {
  kind: "added" | "removed" | "same" | "hunk" | "note";
  text: string;
  before?: number;
  after?: number;
}

export interface Diff {
  lines: DiffLine[];
  added: number;
  removed: number;
}

const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)$/;

/** Lines before the first hunk that say nothing to a reader: the path and its state are shown above. */
const HEADER = /^(---|\+\+\+|diff |index |new file|deleted file|similarity|rename )/;

/** Reads a unified diff. Whatever is none is shown as it is, as notes. */
export function parseDiff(source: string): Diff {
  const lines: DiffLine[] = [];
  let at: { before: number; after: number } | undefined;
  for (const line of source.replace(/\n$/, "").split("\n")) {
    const hunk = HUNK.exec(line);
    if (hunk) {
      at = { before: Number(hunk[1]), after: Number(hunk[2]) };
      lines.push({ kind: "hunk", text: (hunk[3] ?? "").trim() });
    } else if (at) {
      lines.push(inHunk(line, at));
    } else if (line && !HEADER.test(line)) {
      lines.push({ kind: "note", text: line });
    }
  }
  const number = (kind: DiffLine["kind"]) => lines.filter((line) => line.kind === kind).length;
  return { lines, added: number("added"), removed: number("removed") };
}

/** A line within a hunk; `at` moves on by it. */
function inHunk(line: string, at: { before: number; after: number }): DiffLine {
  if (line.startsWith("+")) return { kind: "added", text: line.slice(1), after: at.after++ };
  if (line.startsWith("-")) return { kind: "removed", text: line.slice(1), before: at.before++ };
  if (line.startsWith("\\") || line === "…") return { kind: "note", text: line.replace(/^\\ /, "") };
  return { kind: "same", text: line.slice(1), before: at.before++, after: at.after++ };
}
