/** Longest row that is laid out as one line; longer ones go on in the next row. Browsers lay out megabyte lines for seconds. */
export const ROW_CHARACTERS = 400;

/** Text in rows that can be shown one by one. Keeps positions, not copies: 100,000 lines cost two numbers each. */
export class Lines {
  private readonly starts: number[] = [];
  /** Characters of the longest row. */
  readonly width: number = 0;
  private readonly text: string;

  constructor(text: string) {
    this.text = text;
    for (let at = 0; at <= text.length; ) {
      const feed = text.indexOf("\n", at);
      const end = feed < 0 ? text.length : feed;
      if (feed < 0 && at === text.length && this.starts.length > 0) break;
      for (let row = at; row === at || row < end; row += ROW_CHARACTERS) {
        this.starts.push(row);
        this.width = Math.max(this.width, Math.min(end - row, ROW_CHARACTERS));
      }
      at = end + 1;
    }
  }

  get count(): number {
    return this.starts.length;
  }

  row(index: number): string {
    const start = this.starts[index] ?? this.text.length;
    const next = this.starts[index + 1] ?? this.text.length;
    const end = Math.min(next, start + ROW_CHARACTERS);
    return this.text.slice(start, end).replace(/\n$/, "");
  }
}
