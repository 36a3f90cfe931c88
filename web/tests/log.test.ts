import { describe, expect, test } from "vitest";
import { ConversationLog, SequenceGap } from "../src/conversation/log.ts";
import type { Row, ToolRow } from "../src/conversation/rows.ts";
import { FileChangeType, PermissionDecision } from "../src/gen/pointsman/session/v1/event_pb.ts";
import { TurnState } from "../src/gen/pointsman/session/v1/turn_pb.ts";
import { delta, event, message, TURN, toolResult, toolUse } from "./events.ts";

function texts(log: ConversationLog): string[] {
  log.settle();
  return rows(log).flatMap((row) => (row.kind === "text" ? [row.text] : []));
}

function rows(log: ConversationLog): Row[] {
  return log.turns.get(TURN)?.rows ?? [];
}

describe("order", () => {
  test("an event that was seen is skipped, so a resumed stream may repeat itself", () => {
    const log = new ConversationLog();
    for (const each of [
      message(1, "a", "m1"),
      message(2, "b", "m2"),
      message(1, "a", "m1"),
      message(2, "b", "m2"),
      message(3, "c", "m3"),
    ])
      log.apply(each);
    expect(texts(log)).toEqual(["a", "b", "c"]);
    expect(log.cursor).toBe(3n);
  });

  test("a gap is refused and changes nothing, so that the watcher can ask again from the cursor", () => {
    const log = new ConversationLog();
    log.apply(message(1, "a"));
    expect(() => log.apply(message(3, "c", "m3"))).toThrow(SequenceGap);
    expect(log.cursor).toBe(1n);
    log.apply(message(2, "b", "m2"));
    log.apply(message(3, "c", "m3"));
    expect(texts(log)).toEqual(["a", "b", "c"]);
  });

  test("a log whose beginning is no longer kept begins where it begins", () => {
    const log = new ConversationLog();
    log.apply(message(40, "later"));
    expect(log.cursor).toBe(40n);
  });

  test("kinds of a newer server move the cursor and show nothing", () => {
    const log = new ConversationLog();
    log.apply(event(1, { case: undefined }));
    expect(log.cursor).toBe(1n);
    expect(rows(log)).toEqual([]);
  });
});

describe("text being written", () => {
  test("deltas are put together and give way to the whole block", () => {
    const log = new ConversationLog();
    log.apply(delta("Hel", 0));
    log.apply(delta("lo", 3));
    expect(texts(log)).toEqual(["Hello"]);
    expect(rows(log)[0]).toMatchObject({ live: true });
    const key = rows(log)[0]?.key;
    log.apply(message(1, "Hello."));
    expect(texts(log)).toEqual(["Hello."]);
    expect(rows(log)[0]).toMatchObject({ live: false, key });
  });

  test("after a reconnect the block comes again from offset 0 and is not doubled", () => {
    const log = new ConversationLog();
    log.apply(delta("Hello wor", 0));
    log.apply(delta("Hello world, he", 0));
    log.apply(delta("re I am", 15));
    expect(texts(log)).toEqual(["Hello world, here I am"]);
  });

  test("offsets count code points, not what JavaScript counts", () => {
    const log = new ConversationLog();
    log.apply(delta("👩‍🚀!", 0));
    log.apply(delta(" ok", 4));
    expect(texts(log)).toEqual(["👩‍🚀! ok"]);
  });

  test("a piece beyond the end waits for the whole block, and makes no nonsense meanwhile", () => {
    const log = new ConversationLog();
    log.apply(delta("a", 0));
    log.apply(delta("c", 2));
    expect(texts(log)).toEqual(["a"]);
    log.apply(message(1, "abc"));
    expect(texts(log)).toEqual(["abc"]);
  });

  test("a delta that comes after its block is over is let go", () => {
    const log = new ConversationLog();
    log.apply(message(1, "done"));
    log.apply(delta("do", 0));
    expect(texts(log)).toEqual(["done"]);
  });

  test("two blocks of a message are two rows", () => {
    const log = new ConversationLog();
    log.apply(delta("a", 0, "m1", 0));
    log.apply(delta("b", 0, "m1", 1));
    log.apply(message(1, "A", "m1", 0));
    log.apply(message(2, "B", "m1", 1));
    expect(texts(log)).toEqual(["A", "B"]);
  });

  test("a turn that ends in the middle of a block keeps what was written", () => {
    const log = new ConversationLog();
    log.apply(delta("half a sent", 0));
    log.apply(event(1, { case: "turnFinished", value: { outcome: TurnState.CANCELLED } }));
    expect(texts(log)).toEqual(["half a sent"]);
    expect(rows(log)[0]).toMatchObject({ live: false });
  });

  test("a thousand deltas between two frames are one change of one row", () => {
    const log = new ConversationLog();
    for (let at = 0; at < 1000; at++) log.apply(delta("x", at));
    const before = rows(log)[0];
    expect(before).toMatchObject({ text: "" });
    log.settle();
    expect(rows(log)).toHaveLength(1);
    expect(rows(log)[0]).toMatchObject({ text: "x".repeat(1000) });
    const settled = rows(log)[0];
    log.settle();
    expect(rows(log)[0]).toBe(settled);
  });
});

describe("tools", () => {
  test("a result and a file change belong to their call", () => {
    const log = new ConversationLog();
    log.apply(toolUse(1, "t1"));
    log.apply(toolUse(2, "t2"));
    log.apply(
      event(3, {
        case: "fileChange",
        value: { path: "a.py", type: FileChangeType.CREATED, toolUseId: "t1" },
      }),
    );
    log.apply(toolResult(4, "t1", "first"));
    const [first, second] = rows(log) as ToolRow[];
    expect(first?.result?.content).toBe("first");
    expect(first?.changes.map((change) => change.path)).toEqual(["a.py"]);
    expect(second?.result).toBeUndefined();
  });

  test("a sub-agent's events lie in the call that started it, and change that row's identity", () => {
    const log = new ConversationLog();
    log.apply(toolUse(1, "task"));
    const before = rows(log)[0];
    log.apply(toolUse(2, "inner", "task"));
    log.apply(toolResult(3, "inner"));
    const task = rows(log)[0] as ToolRow;
    expect(rows(log)).toHaveLength(1);
    expect(task).not.toBe(before);
    expect((task.children[0] as ToolRow).result?.content).toBe("ok");
  });

  test("rows that did not change stay the same objects", () => {
    const log = new ConversationLog();
    log.apply(toolUse(1, "t1"));
    log.apply(toolUse(2, "t2"));
    const first = rows(log)[0];
    log.apply(toolResult(3, "t2"));
    expect(rows(log)[0]).toBe(first);
  });
});

describe("permissions", () => {
  const asked = (sequence: number, permissionId: string, toolUseId = "") =>
    event(sequence, { case: "permissionRequested", value: { permissionId, tool: "Bash", toolUseId } });

  test("a request waits until it is decided", () => {
    const log = new ConversationLog();
    log.apply(toolUse(1, "t1"));
    log.apply(asked(2, "p1", "t1"));
    expect(log.pending.map((each) => each.request.permissionId)).toEqual(["p1"]);
    log.apply(
      event(3, {
        case: "permissionDecided",
        value: { permissionId: "p1", decision: PermissionDecision.ALLOW },
      }),
    );
    expect(log.pending).toEqual([]);
    expect((rows(log)[0] as ToolRow).permission?.decided?.decision).toBe(PermissionDecision.ALLOW);
  });

  test("a request whose turn is over does not wait any more", () => {
    const log = new ConversationLog();
    log.apply(asked(1, "p1"));
    log.apply(event(2, { case: "turnFinished", value: { outcome: TurnState.INTERRUPTED } }));
    expect(log.pending).toEqual([]);
    expect(rows(log)).toHaveLength(1);
  });
});

describe("turns", () => {
  test("a turn waits, runs and ends; its usage adds up", () => {
    const log = new ConversationLog();
    log.apply(event(1, { case: "turnQueued", value: { position: 2 } }));
    expect(log.turns.get(TURN)).toMatchObject({ position: 2, anchor: 1n });
    log.apply(event(2, { case: "turnUpdated", value: { position: 1, fields: ["position"] } }));
    log.apply(event(3, { case: "turnStarted", value: { model: "demo/offline" } }));
    expect(log.turns.get(TURN)).toMatchObject({ position: 0, edits: 1, anchor: 3n });
    for (const sequence of [4, 5])
      log.apply(
        event(sequence, {
          case: "usage",
          value: { usage: { inputTokens: 10n, outputTokens: 2n, costUsd: 0.5 } },
        }),
      );
    expect(log.turns.get(TURN)?.usage).toEqual({ inputTokens: 20n, outputTokens: 4n, costUsd: 1, calls: 2 });
    log.apply(event(6, { case: "turnFinished", value: { outcome: TurnState.SUCCEEDED } }));
    expect(log.turns.get(TURN)?.finished?.outcome).toBe(TurnState.SUCCEEDED);
  });

  test("retries one after another are one row, the newest", () => {
    const log = new ConversationLog();
    for (const attempt of [1, 2]) log.apply(event(attempt, { case: "modelRetry", value: { attempt } }));
    expect(rows(log)).toHaveLength(1);
    expect(rows(log)[0]).toMatchObject({ kind: "retry", retry: { attempt: 2 } });
  });

  test("what a turn goes on without is told in a sentence", () => {
    const log = new ConversationLog();
    log.apply(event(1, { case: "mcpServerUnavailable", value: { name: "docs", message: "It ended." } }));
    log.apply(event(2, { case: "transcriptIncomplete", value: { message: "A document was left out." } }));
    expect(rows(log)).toMatchObject([
      { kind: "warning", message: "The MCP server docs is not available: It ended." },
      { kind: "warning", message: "A document was left out." },
    ]);
  });
});

test("ten thousand events are folded in well under a second", () => {
  const log = new ConversationLog();
  const started = performance.now();
  for (let at = 1; at <= 10_000; at += 2) {
    log.apply(toolUse(at, `t${at}`));
    log.apply(toolResult(at + 1, `t${at}`));
  }
  log.settle();
  expect(rows(log)).toHaveLength(5000);
  expect(performance.now() - started).toBeLessThan(1000);
});
