import { describe, expect, test } from "vitest";
import { hrefOf, parseRoute } from "../src/state/route.ts";
import { coloured, LANGUAGES } from "../src/text/colour.ts";
import { parseDiff } from "../src/text/diff.ts";
import { span } from "../src/text/format.ts";
import { Lines, ROW_CHARACTERS } from "../src/text/lines.ts";
import { blocksOf, GrowingBlocks } from "../src/text/markdown.tsx";
import { visible, visibleLine } from "../src/text/visible.ts";

describe("text from a model", () => {
  test("terminal sequences are dropped", () => {
    expect(visible("\u001b[31mred\u001b[0m \u001b]0;title\u0007x\u001b[2J")).toBe("red x");
  });

  test("characters that reorder or hide are spelled out", () => {
    expect(visible("a\u202Eb\u2066c\u200Bd\u0000")).toBe("a⟨U+202E⟩b⟨U+2066⟩c⟨U+200B⟩d⟨U+0000⟩");
  });

  test("line breaks, tabs, emoji and other scripts stay", () => {
    expect(visible("a\tb\r\nc 👩‍🚀 שלום\u200F مرحبا")).toBe("a\tb\nc 👩‍🚀 שלום\u200F مرحبا");
  });

  test("a title is one short line", () => {
    expect(visibleLine(`a\nb${"c".repeat(1000)}`, 10)).toBe("a bccccccc…");
  });
});

test.each([
  [0.24, "0.24 s"],
  [59.7, "1 min 0 s"],
  [119.6, "2 min 0 s"],
  [7799, "2 h 10 min"],
  [86_400, "1 d 0 h"],
])("%d seconds are %s", (seconds, words) => {
  expect(span(seconds)).toBe(words);
});

describe("code in colour", () => {
  test("the pieces together are the text, each with its kind", () => {
    const pieces = coloured('def f():\n    return "<b>"  # 1\n', "py");
    expect(pieces?.map((piece) => piece.text).join("")).toBe('def f():\n    return "<b>"  # 1\n');
    expect(pieces).toContainEqual({ text: "def", kind: "keyword" });
    expect(pieces).toContainEqual({ text: '"<b>"', kind: "string" });
    expect(pieces).toContainEqual({ text: "# 1", kind: "comment" });
  });

  test.each(["a ", "def ", "((", '"', "[a]("])(
    "hostile code of %j is read in under two seconds in every language",
    (piece) => {
      const line = piece.repeat(Math.floor(400 / piece.length));
      const text = `${line}\n`.repeat(10_000 / (line.length + 1));
      for (const language of Object.keys(LANGUAGES)) {
        const begun = performance.now();
        expect(coloured(text, language)).toBeDefined();
        expect(performance.now() - begun).toBeLessThan(2000);
      }
    },
  );

  test("long lines and long texts stay plain: they would take the square of their length", () => {
    expect(coloured("a ".repeat(201), "c")).toBeUndefined();
    expect(coloured("a\n".repeat(5001), "c")).toBeUndefined();
  });

  test("what nobody knows stays plain", () => {
    expect(coloured("x", "no-such-language")).toBeUndefined();
    expect(coloured("x", "__proto__")).toBeUndefined();
  });
});

describe("markdown in pieces", () => {
  const TEXT = "# Title\n\nOne\ntwo.\n\n- a\n- b\n\n  more of b\n\n```py\nx = 1\n\ny = 2\n```\n\nThe end.";

  test("blocks together are the whole text", () => {
    expect(blocksOf(TEXT).join("\n").replace(/\n+/g, "\n")).toBe(TEXT.replace(/\n+/g, "\n"));
  });

  test("text that grows character by character ends in the same blocks as the whole", () => {
    const growing = new GrowingBlocks();
    let blocks: string[] = [];
    for (let length = 1; length <= TEXT.length; length++) blocks = growing.update(TEXT.slice(0, length));
    const bare = (list: string[]) => list.map((block) => block.trim()).filter(Boolean);
    expect(bare(blocks)).toEqual(bare(blocksOf(TEXT)));
  });

  test("text that is replaced by other text starts over", () => {
    const growing = new GrowingBlocks();
    growing.update("a\n\nb\n\nc\n\nd");
    expect(growing.update("x\n\ny").map((block) => block.trim())).toEqual(["x", "y"]);
  });

  test.each([
    "[",
    "*",
    "_",
    "`",
    "<",
    "(",
    "![",
    "**a",
    "\\",
    "> ",
    "- ",
    "|",
    "#",
    "&",
    "http://",
    "[a](",
    "*a_",
    "a*",
  ])("100,000 characters of %j are read in under a second", (piece) => {
    const text = piece.repeat(Math.ceil(100_000 / piece.length));
    const started = performance.now();
    blocksOf(text);
    expect(performance.now() - started).toBeLessThan(1000);
  });
});

describe("rows of long text", () => {
  test("a line of a megabyte is cut into rows", () => {
    const lines = new Lines("x".repeat(1024 * 1024));
    expect(lines.count).toBe(Math.ceil((1024 * 1024) / ROW_CHARACTERS));
    expect(lines.row(0)).toHaveLength(ROW_CHARACTERS);
  });

  test("all rows together are the text", () => {
    const text = `a\n\n${"b".repeat(1000)}\nc\n`;
    const lines = new Lines(text);
    const rows = Array.from({ length: lines.count }, (_, index) => lines.row(index));
    expect(rows).toEqual(["a", "", "b".repeat(400), "b".repeat(400), "b".repeat(200), "c"]);
  });
});

describe("diffs", () => {
  test("lines have their numbers in both files", () => {
    const diff = parseDiff("--- a/x\n+++ b/x\n@@ -3,3 +3,3 @@ def f\n a\n-b\n+c\n d\n");
    expect(diff).toMatchObject({ added: 1, removed: 1 });
    expect(diff.lines.map(({ kind, before, after }) => [kind, before, after])).toEqual([
      ["hunk", undefined, undefined],
      ["same", 3, 3],
      ["removed", 4, undefined],
      ["added", undefined, 4],
      ["same", 5, 5],
    ]);
  });

  test("what is no diff is shown as it is", () => {
    expect(parseDiff("nonsense").lines).toEqual([{ kind: "note", text: "nonsense" }]);
  });
});

test("deep links lead where they came from", () => {
  const session = "sessions/12345678-1234-1234-1234-123456789abc";
  for (const route of [
    { page: "new" },
    { page: "status" },
    { page: "session", session },
    { page: "session", session, turn: `${session}/turns/1` },
    { page: "session", session, panel: "files", path: "a b/ü#?.py" },
    { page: "session", session, panel: "changes" },
  ] as const) {
    expect(parseRoute(hrefOf(route))).toEqual(route);
  }
});

test.each(["#/sessions/../../x", "#/sessions/<script>", "#/%E0%A4%A", "#javascript:alert(1)"])(
  "a broken link %s leads home",
  (hash) => {
    expect(parseRoute(hash)).toEqual({ page: "new" });
  },
);
