import { useMemo, useRef } from "preact/hooks";
import type { TextRow } from "../conversation/rows.ts";
import { blocksOf, GrowingBlocks, MARKDOWN_LIMIT, MarkdownBlock } from "../text/markdown.tsx";
import { visible, visibleLine } from "../text/visible.ts";
import { PlainText } from "./code.tsx";
import { CopyButton } from "./controls.tsx";
import { Fold } from "./fold.tsx";

/** What the model says, as Markdown, while it says it and afterwards. */
export function Answer({ row }: { row: TextRow }) {
  return (
    <div class={`answer ${row.live ? "live" : ""}`} dir="auto">
      <Markdown text={row.text} live={row.live} />
      {!row.live && row.text.length > 80 && (
        <div class="answer-actions">
          <CopyButton text={() => row.text} label="Copy the answer" />
        </div>
      )}
    </div>
  );
}

/** A definition that a link elsewhere in the text may refer to. */
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m;

function Markdown({ text, live }: { text: string; live: boolean }) {
  const growing = useRef(new GrowingBlocks());
  const blocks = useMemo(() => {
    if (text.length > MARKDOWN_LIMIT) return undefined;
    const shown = visible(text);
    if (live) return growing.current.update(shown);
    return DEFINITION.test(shown) ? [shown] : blocksOf(shown);
  }, [text, live]);
  if (!blocks) return <PlainText text={text} label="Long answer" />;
  return (
    <>
      {blocks.map((block, index) => (
        <MarkdownBlock key={index} source={block} />
      ))}
    </>
  );
}

/** What the model thinks, folded, with a line of it to look at. */
export function Thinking({ row }: { row: TextRow }) {
  return (
    <Fold
      id={row.key}
      class="thinking"
      head={
        <>
          {row.live ? "Thinking…" : "Thought"}
          <span class="thinking-hint">
            {visibleLine(row.text.slice(-400), 400)
              .slice(row.live ? -90 : 0)
              .slice(0, 90)}
          </span>
        </>
      }
    >
      {() => (
        <div class="thinking-text" dir="auto">
          {row.text.length > MARKDOWN_LIMIT ? (
            <PlainText text={row.text} label="Thinking" />
          ) : (
            visible(row.text)
          )}
        </div>
      )}
    </Fold>
  );
}
