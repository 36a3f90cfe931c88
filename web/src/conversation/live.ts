/**
 * The text of a block while it is being written, put together from deltas that say at which code point they begin.
 * Deltas may come twice or start over from 0 after a reconnect; the text never gets shorter and never doubles.
 */
export class LiveText {
  private pieces: string[] = [];
  private joined: string | undefined = "";
  /** Code points so far: what `offset` counts. */
  private length = 0;

  /** Takes a piece. Returns whether the text changed. A piece beyond the end is refused: something is missing before it. */
  add(piece: string, offset: number): boolean {
    const size = codePoints(piece);
    if (offset > this.length || offset + size <= this.length) return false;
    const overlap = this.length - offset;
    this.pieces.push(overlap === 0 ? piece : [...piece].slice(overlap).join(""));
    this.length = offset + size;
    this.joined = undefined;
    return true;
  }

  get text(): string {
    if (this.joined === undefined) {
      this.joined = this.pieces.join("");
      this.pieces = [this.joined];
    }
    return this.joined;
  }
}

function codePoints(text: string): number {
  let count = 0;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit >= 0xd800 && unit <= 0xdbff) index++;
    count++;
  }
  return count;
}
