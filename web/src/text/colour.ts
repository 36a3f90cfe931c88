import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import dockerfile from "highlight.js/lib/languages/dockerfile";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import makefile from "highlight.js/lib/languages/makefile";
import markdown from "highlight.js/lib/languages/markdown";
import php from "highlight.js/lib/languages/php";
import protobuf from "highlight.js/lib/languages/protobuf";
import python from "highlight.js/lib/languages/python";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";

/** A piece of code, and what it is in its language: `keyword`, `string`…; empty for nothing in particular. */
export interface Piece {
  text: string;
  kind: string;
}

/** The languages, without their other names. */
export const LANGUAGES = {
  bash,
  c,
  cpp,
  css,
  diff,
  dockerfile,
  go,
  ini,
  java,
  javascript,
  json,
  makefile,
  markdown,
  php,
  protobuf,
  python,
  ruby,
  rust,
  sql,
  typescript,
  xml,
  yaml,
};
const languages = createLowlight(LANGUAGES);

/**
 * What is longer, or has longer lines, stays plain: the patterns of some languages take time with the square of a
 * line's length, and a model may write what it likes.
 */
const MOST_CHARACTERS = 10_000;
const LONGEST_LINE = 400;

type Node = ReturnType<typeof languages.highlight>["children"][number];

/** The pieces of a code, which together are the text; undefined when it is too long or in none of these languages. */
export function coloured(text: string, language: string): Piece[] | undefined {
  const name = language.toLowerCase();
  if (!languages.registered(name) || text.length > MOST_CHARACTERS) return undefined;
  if (text.split("\n").some((line) => line.length > LONGEST_LINE)) return undefined;
  const pieces: Piece[] = [];
  // A stack, not recursion: hostile code nests as deep as it is long.
  const waiting = [...languages.highlight(name, text).children].reverse().map((node) => ({ node, kind: "" }));
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const { node, kind } = next;
    if (node.type === "text") pieces.push({ text: node.value, kind });
    if (node.type !== "element") continue;
    const own = kindOf(node) ?? kind;
    for (const child of [...node.children].reverse()) waiting.push({ node: child, kind: own });
  }
  return pieces;
}

function kindOf(node: Node & { type: "element" }): string | undefined {
  const names = node.properties.className;
  return Array.isArray(names) ? String(names[0]).replace("hljs-", "") : undefined;
}
