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

/** Reads a unified diff. Whatever is none is shown as it is, as notes. */
export function parseDiff(source: string): Diff {
  const lines: DiffLine[] = [];
  let before = 0;
  let after = 0;
  let inHunk = false;
  for (const line of source.replace(/\n$/, "").split("\n")) {
    const hunk = HUNK.exec(line);
    if (hunk) {
      before = Number(hunk[1]);
      after = Number(hunk[2]);
      inHunk = true;
      lines.push({ kind: "hunk", text: (hunk[3] ?? "").trim() });
    } else if (!inHunk) {
      if (line && !/^(---|\+\+\+|diff |index |new file|deleted file|similarity|rename )/.test(line))
        lines.push({ kind: "note", text: line });
    } else if (line.startsWith("+")) {
      lines.push({ kind: "added", text: line.slice(1), after: after++ });
    } else if (line.startsWith("-")) {
      lines.push({ kind: "removed", text: line.slice(1), before: before++ });
    } else if (line.startsWith("\\") || line === "…") {
      lines.push({ kind: "note", text: line.replace(/^\\ /, "") });
    } else {
      lines.push({ kind: "same", text: line.slice(1), before: before++, after: after++ });
    }
  }
  return {
    lines,
    added: lines.filter((line) => line.kind === "added").length,
    removed: lines.filter((line) => line.kind === "removed").length,
  };
}
