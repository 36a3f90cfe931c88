import type { Token } from "markdown-it";
import MarkdownIt from "markdown-it";
import { type ComponentChild, Fragment, h } from "preact";
import { memo } from "preact/compat";
import { CodeBlock } from "../ui/code.tsx";

/**
 * Markdown without markup. The parser yields tokens, and the tokens become elements from the closed list below; no
 * string is ever made into HTML, so nothing that a model writes can be more than text. Raw HTML is text, images are
 * links (the page loads nothing from elsewhere), and links lead to http, https and mailto only.
 */
const parser = new MarkdownIt({ html: false, linkify: true, breaks: false, maxNesting: 40 });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
parser.validateLink = (url) => /^(https?:|mailto:)/i.test(url.trim());

const ELEMENTS = new Set([
  "p",
  "h1",
  "h2",
  "h3",
  "h4",
  "h5",
  "h6",
  "ul",
  "ol",
  "li",
  "blockquote",
  "hr",
  "strong",
  "em",
  "s",
  "table",
  "thead",
  "tbody",
  "tr",
  "th",
  "td",
]);

/** Longest text that is read as Markdown; what is longer is shown as it is. */
export const MARKDOWN_LIMIT = 100_000;

/** Top-level blocks of a text with the source of each, so that only those that changed are drawn anew. */
export function blocksOf(text: string): string[] {
  const lines = text.split("\n");
  const starts = parser
    .parse(text, {})
    .filter((token) => token.level === 0 && token.nesting >= 0 && token.map)
    .map((token) => token.map?.[0] ?? 0);
  return starts.map((start, index) => lines.slice(start, starts[index + 1] ?? lines.length).join("\n"));
}

/**
 * Reads a text that grows at its end: only the last block is read again for each piece. Exact but for reference
 * links whose definition comes in a later block; the finished text is read anew as a whole.
 */
export class GrowingBlocks {
  private done: string[] = [];
  private doneLength = 0;
  private last = "";

  update(text: string): string[] {
    if (!text.startsWith(this.last.slice(0, 64)) || text.length < this.last.length) {
      this.done = [];
      this.doneLength = 0;
    }
    this.last = text;
    const tail = blocksOf(text.slice(this.doneLength));
    // The block before the last one can still change: a list goes on after a blank line.
    for (const block of tail.slice(0, -2)) {
      const at = text.indexOf(block, this.doneLength);
      if (at < 0) break;
      this.done.push(block);
      this.doneLength = at + block.length;
    }
    return [...this.done, ...(this.doneLength ? blocksOf(text.slice(this.doneLength)) : tail)];
  }
}

export const MarkdownBlock = memo(function MarkdownBlock({ source }: { source: string }) {
  return <>{build(parser.parse(source, {}))}</>;
});

/** Elements for a flat list of opening, closing and self-contained tokens. */
function build(tokens: Token[]): ComponentChild[] {
  const root: ComponentChild[] = [];
  const open: { tag: string; props: Record<string, unknown>; children: ComponentChild[] }[] = [];
  const put = (child: ComponentChild) => (open.at(-1)?.children ?? root).push(child);
  for (const token of tokens) {
    if (token.nesting === 1) {
      open.push({ tag: token.tag, props: propsOf(token), children: [] });
    } else if (token.nesting === -1) {
      const closed = open.pop();
      if (closed) put(element(closed.tag, closed.props, closed.children));
    } else {
      put(leaf(token));
    }
  }
  return root;
}

function element(tag: string, props: Record<string, unknown>, children: ComponentChild[]): ComponentChild {
  if (tag === "a") return <a {...props}>{children}</a>;
  if (tag === "table")
    return (
      <div class="table-scroll" tabIndex={0} role="region" aria-label="Table">
        <table>{children}</table>
      </div>
    );
  if (tag === "p" && props.hidden) return <Fragment>{children}</Fragment>;
  // A page has its own headings; those of an answer begin below them.
  if (/^h[1-6]$/.test(tag)) return h(`h${Math.min(6, Number(tag[1]) + 1)}`, { class: `md-${tag}` }, children);
  return ELEMENTS.has(tag) ? h(tag, props, children) : <Fragment>{children}</Fragment>;
}

function propsOf(token: Token): Record<string, unknown> {
  if (token.tag === "a") {
    const href = attribute(token, "href");
    return parser.validateLink(href)
      ? { href, target: "_blank", rel: "noreferrer noopener nofollow", title: href }
      : {};
  }
  if (token.tag === "p") return { hidden: token.hidden };
  if (token.tag === "ol") return { start: Number(token.attrGet("start")) || undefined };
  if (token.tag === "th" || token.tag === "td")
    return { class: attribute(token, "style").replace("text-align:", "align-") };
  return {};
}

function attribute(token: Token, name: string): string {
  return String(token.attrGet(name) ?? "");
}

function leaf(token: Token): ComponentChild {
  switch (token.type) {
    case "inline":
      return <>{build(token.children ?? [])}</>;
    case "text":
    case "html_inline":
    case "html_block":
      return token.content;
    case "softbreak":
      return "\n";
    case "hardbreak":
      return <br />;
    case "code_inline":
      return <code>{token.content}</code>;
    case "fence":
    case "code_block":
      return <CodeBlock text={token.content} language={token.info.trim().split(/\s/)[0] ?? ""} />;
    case "image": {
      const href = attribute(token, "src");
      const label = token.content || href;
      return parser.validateLink(href) ? (
        <a href={href} target="_blank" rel="noreferrer noopener nofollow" title={href}>
          Image: {label}
        </a>
      ) : (
        label
      );
    }
    case "hr":
      return <hr />;
    default:
      return token.content;
  }
}
