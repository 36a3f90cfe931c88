import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Lines } from "../text/lines.ts";
import { visible } from "../text/visible.ts";
import { Coloured } from "./coloured.tsx";
import { CopyButton } from "./controls.tsx";

/** Text above this many characters or lines is shown row by row. */
const SMALL_CHARACTERS = 20_000;
const SMALL_LINES = 400;
/** Height of a row; the style sheet says the same. */
const ROW_PIXELS = 20;
const ROWS_AROUND = 20;

export function CodeBlock({ text, language = "" }: { text: string; language?: string }) {
  return (
    <div class={`code-block ${language ? "" : "nameless"}`}>
      <div class="code-head">
        {language && <span>{language}</span>}
        <CopyButton text={() => text} label="Copy code" />
      </div>
      <PlainText
        text={text.replace(/\n$/, "")}
        label={language ? `Code in ${language}` : "Code"}
        language={language}
      />
    </div>
  );
}

/** Preformatted text of any size. */
export function PlainText({
  text,
  label,
  language = "",
  fill = false,
  tall = false,
}: {
  text: string;
  label: string;
  /** What it is written in, as Markdown and file names spell it; empty for plain text. */
  language?: string;
  fill?: boolean;
  tall?: boolean;
}) {
  if (text.length > SMALL_CHARACTERS || countLines(text) > SMALL_LINES)
    return <LongText text={text} label={label} fill={fill} />;
  return (
    <pre
      class={`plain ${tall ? "tall" : ""} ${fill ? "fill" : ""}`}
      dir="ltr"
      tabIndex={0}
      aria-label={label}
      role="region"
    >
      <code>
        <Coloured text={visible(text)} language={language} />
      </code>
    </pre>
  );
}

/** Text of which only the rows in sight exist in the page. */
function LongText({ text, label, fill }: { text: string; label: string; fill: boolean }) {
  const scroller = useRef<HTMLDivElement>(null);
  const [range, setRange] = useState({ from: 0, to: 60 });
  const lines = useMemo(() => new Lines(text), [text]);
  const look = () => {
    const element = scroller.current;
    if (!element) return;
    const from = Math.max(0, Math.floor(element.scrollTop / ROW_PIXELS) - ROWS_AROUND);
    const to = Math.ceil((element.scrollTop + element.clientHeight) / ROW_PIXELS) + ROWS_AROUND;
    setRange((before) => (before.from === from && before.to === to ? before : { from, to }));
  };
  useLayoutEffect(look, [lines]);
  const rows = [];
  for (let index = range.from; index < Math.min(range.to, lines.count); index++)
    rows.push(visible(lines.row(index)));
  return (
    <div>
      <div
        ref={scroller}
        class={`plain long ${fill ? "fill" : ""}`}
        dir="ltr"
        tabIndex={0}
        role="region"
        aria-label={label}
        onScroll={look}
      >
        <div
          class="long-space"
          style={{ height: `${lines.count * ROW_PIXELS}px`, minWidth: `${Math.min(lines.width, 400)}ch` }}
        >
          <pre style={{ transform: `translateY(${range.from * ROW_PIXELS}px)` }}>
            <code>{rows.join("\n")}</code>
          </pre>
        </div>
      </div>
      <p class="long-note">
        {text.length.toLocaleString()} characters in {countLines(text).toLocaleString()}{" "}
        {countLines(text) === 1 ? "line" : "lines"}, as they are
      </p>
    </div>
  );
}

function countLines(text: string): number {
  let count = 1;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++;
  return count;
}
