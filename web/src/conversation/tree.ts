import type { Row, ToolRow } from "./rows.ts";

/** Where a row lies: which list, at which index, and in which tool call's children, if any. */
export interface Place {
  list: Row[];
  index: number;
  parent: string;
}

/**
 * Rows, and the rows within tool calls that started a sub-agent. Rows are replaced, never changed; where one within a
 * tool call is replaced, so is the tool call, up to the turn.
 */
export class RowTree {
  private readonly tools = new Map<string, Place>();

  /** Adds a row at the end of a tool call's children, else of `top`. With `fold`, a last row of that kind gives way to it. */
  append(top: Row[], parentTool: string, row: Row, fold?: Row["kind"]): Place {
    const parent = this.tools.get(parentTool);
    const list = parent ? (parent.list[parent.index] as ToolRow).children : top;
    const last = list.at(-1);
    const index = fold && last?.kind === fold ? list.length - 1 : list.length;
    list[index] = index < list.length && last ? ({ ...row, key: last.key } as Row) : row;
    this.touch(parentTool);
    const place = { list, index, parent: parent ? parentTool : "" };
    if (row.kind === "tool") this.tools.set(row.use.id, place);
    return place;
  }

  replace(place: Place, by: (row: Row) => Row): void {
    const row = place.list[place.index];
    if (row) place.list[place.index] = by(row);
    if (place.parent) this.touch(place.parent);
  }

  /** Replaces a tool call's row; false when no such call is known. */
  replaceTool(id: string, by: (row: ToolRow) => ToolRow): boolean {
    const place = this.tools.get(id);
    if (place) this.replace(place, (row) => by(row as ToolRow));
    return place !== undefined;
  }

  private touch(id: string): void {
    const place = this.tools.get(id);
    const row = place?.list[place.index];
    if (!place || !row) return;
    place.list[place.index] = { ...row };
    this.touch(place.parent);
  }
}
