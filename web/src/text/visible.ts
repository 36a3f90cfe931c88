/** Terminal control sequences: CSI, OSC (up to its end), and two-character escapes. */
const ANSI =
  /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\^_])|\u009b[0-?]*[ -/]*[@-~]/g;

/** Characters that change what a reader sees without being seen: direction overrides, invisible spaces, controls. */
const DECEPTIVE =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/**
 * Text from a model, a tool or a file as it may be shown: terminal colours are dropped, and characters that would
 * reorder or hide what stands around them are spelled out, as in `⟨U+202E⟩`.
 */
export function visible(text: string): string {
  return text
    .replace(ANSI, "")
    .replace(/\r\n?/g, "\n")
    .replace(
      DECEPTIVE,
      (character) => `⟨U+${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0")}⟩`,
    );
}

/** One line of it, for titles and paths: no line breaks, at most `limit` characters. */
export function visibleLine(text: string, limit = 200): string {
  const line = visible(text.slice(0, limit * 4))
    .replace(/\s+/g, " ")
    .trim();
  return line.length > limit ? `${line.slice(0, limit)}…` : line;
}
