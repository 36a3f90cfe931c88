import { memo } from "preact/compat";
import { useMemo, useRef } from "preact/hooks";
import type { Row, TextRow } from "../conversation/rows.ts";
import { SandboxState } from "../gen/pointsman/session/v1/event_pb.ts";
import { TurnRoute } from "../gen/pointsman/session/v1/turn_pb.ts";
import { bytes, seconds, span } from "../text/format.ts";
import { blocksOf, GrowingBlocks, MARKDOWN_LIMIT, MarkdownBlock } from "../text/markdown.tsx";
import { visible, visibleLine } from "../text/visible.ts";
import { PlainText } from "./code.tsx";
import { CopyButton } from "./controls.tsx";
import { DiffView } from "./diff.tsx";
import { Fold } from "./fold.tsx";
import { Icon, type IconName } from "./icons.tsx";
import { PermissionRecord, ToolView } from "./tool.tsx";

export const RowView = memo(function RowView({ row }: { row: Row }) {
  switch (row.kind) {
    case "text":
      return (
        <div class="row">
          <Answer row={row} />
        </div>
      );
    case "thinking":
      return (
        <div class="row">
          <Thinking row={row} />
        </div>
      );
    case "tool":
      return (
        <div class="row">
          <ToolView row={row} />
        </div>
      );
    case "change":
      return (
        <div class="row">
          <DiffView change={row.change} open={false} />
        </div>
      );
    case "permission":
      return (
        <div class="row">
          <PermissionRecord permission={row.permission} />
        </div>
      );
    case "retry": {
      const { attempt, maxAttempts, delay, status, message } = row.retry;
      const tries = maxAttempts ? `attempt ${attempt} of ${maxAttempts}` : `attempt ${attempt}`;
      return (
        <Note icon="retry" tone="warn">
          Model call failed ({tries}
          {status ? `, status ${status}` : ""}), trying again{delay ? ` in ${span(seconds(delay))}` : ""}.{" "}
          {visibleLine(message, 300)}
        </Note>
      );
    }
    case "sandbox":
      return (
        <Note icon="terminal">
          {sandboxWords(row.sandbox.state)}
          {seconds(row.sandbox.duration) > 0 && ` in ${span(seconds(row.sandbox.duration))}`}
          {row.sandbox.pooled && ", from the pool"}
        </Note>
      );
    case "triage": {
      const { route, decidedBy, reason, escalated } = row.triage;
      const how = escalated
        ? "Goes on with an agent"
        : route === TurnRoute.DIRECT
          ? "Answered directly, without a sandbox"
          : "Answered by an agent";
      return (
        <Note icon="fork">
          <span title={`Decided by ${visibleLine(decidedBy)}`}>
            {how}
            {reason && `: ${visibleLine(reason, 300)}`}
          </span>
        </Note>
      );
    }
    case "context": {
      const { provider, sizeBytes, error } = row.context;
      return error ? (
        <Note icon="warning" tone="warn">
          No context from {visibleLine(provider)}: {visibleLine(error.message, 300)}
        </Note>
      ) : (
        <Note icon="file">
          {bytes(sizeBytes)} of context from {visibleLine(provider)}
        </Note>
      );
    }
  }
});

const SANDBOX: Partial<Record<SandboxState, string>> = {
  [SandboxState.STARTING]: "Starting the sandbox",
  [SandboxState.READY]: "Sandbox ready",
  [SandboxState.RESUMED]: "Sandbox resumed",
  [SandboxState.RUNNING]: "Sandbox running",
  [SandboxState.IDLE]: "Sandbox idle",
  [SandboxState.PAUSED]: "Sandbox paused",
  [SandboxState.HIBERNATED]: "Sandbox hibernated",
};

export function sandboxWords(state: SandboxState): string {
  return SANDBOX[state] ?? "Sandbox changed";
}

function Note({
  icon,
  tone = "",
  children,
}: {
  icon: IconName;
  tone?: string;
  children: preact.ComponentChildren;
}) {
  return (
    <div class={`row note ${tone}`}>
      <Icon name={icon} size={14} />
      <span>{children}</span>
    </div>
  );
}

function Answer({ row }: { row: TextRow }) {
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

function Thinking({ row }: { row: TextRow }) {
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
