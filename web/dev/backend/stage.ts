import { randomUUID } from "node:crypto";
import type { JsonObject } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ErrorReason } from "../../src/gen/pointsman/errors/v1/errors_pb.ts";
import { FileChangeType, PermissionDecision } from "../../src/gen/pointsman/session/v1/event_pb.ts";
import type { Turn } from "../../src/gen/pointsman/session/v1/turn_pb.ts";
import type { ScriptedSession } from "./world.ts";

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A turn ends here, and not well. */
export class Failed extends Error {
  readonly error: { reason: ErrorReason; message: string; metadata?: Record<string, string> };
  constructor(error: Failed["error"]) {
    super(error.message);
    this.error = error;
  }
}

/** What a script says and does in a turn. */
export class Stage {
  private message = 0;
  readonly session: ScriptedSession;
  readonly turn: Turn;
  constructor(session: ScriptedSession, turn: Turn) {
    this.session = session;
    this.turn = turn;
  }

  private live(): void {
    if (this.session.cancelled.has(this.turn.name))
      throw new Failed({ reason: ErrorReason.TURN_CANCELLED, message: "You stopped this turn." });
  }

  async say(text: string, { thinking = false, pace = 12, size = 6, parent = "" } = {}): Promise<void> {
    const messageId = `${this.turn.name}-${++this.message}`;
    const points = [...text];
    for (let at = 0; at < points.length; at += size) {
      this.live();
      const piece = points.slice(at, at + size).join("");
      const where = { messageId, block: 0, offset: BigInt(at) };
      if (thinking)
        this.session.emit(
          this.turn.name,
          { case: "thinkingDelta", value: { thinking: piece, ...where } },
          parent,
        );
      else this.session.emit(this.turn.name, { case: "textDelta", value: { text: piece, ...where } }, parent);
      if (pace) await sleep(pace);
    }
    const value = thinking ? { thinking: text, messageId } : { text, messageId };
    this.session.emit(
      this.turn.name,
      { case: "assistantMessage", value: { ...value, model: this.turn.model } },
      parent,
    );
  }

  async tool(
    tool: string,
    input: JsonObject,
    result: string,
    { parent = "", isError = false, ms = 300 } = {},
  ): Promise<string> {
    const id = `toolu_${randomUUID()}`;
    this.use(id, tool, input, parent);
    await sleep(ms);
    this.live();
    this.result(id, result, isError, parent);
    return id;
  }

  use(id: string, tool: string, input: JsonObject, parent = ""): void {
    this.session.emit(this.turn.name, { case: "toolUse", value: { id, tool, input } }, parent);
  }

  result(id: string, content: string, isError = false, parent = ""): void {
    this.session.emit(
      this.turn.name,
      { case: "toolResult", value: { toolUseId: id, content, isError } },
      parent,
    );
  }

  async write(path: string, text: string, diff: string, type = FileChangeType.CREATED): Promise<void> {
    const id = `toolu_${randomUUID()}`;
    this.use(id, type === FileChangeType.CREATED ? "Write" : "Edit", {
      file_path: `/workspace/${path}`,
      content: text,
    });
    await sleep(250);
    this.live();
    this.session.files.set(path, { data: new TextEncoder().encode(text), at: Date.now() });
    this.session.emit(this.turn.name, { case: "fileChange", value: { path, type, diff, toolUseId: id } });
    this.result(id, `File written at: /workspace/${path}`);
  }

  async ask(
    tool: string,
    input: JsonObject,
  ): Promise<{ allowed: boolean; message: string; input?: JsonObject }> {
    const id = `toolu_${randomUUID()}`;
    const permissionId = randomUUID();
    this.use(id, tool, input);
    const decision = this.session.decision(permissionId);
    this.session.emit(this.turn.name, {
      case: "permissionRequested",
      value: {
        permissionId,
        tool,
        input,
        toolUseId: id,
        expireTime: timestampFromMs(Date.now() + 3_600_000),
      },
    });
    const decided = await decision;
    this.session.emit(this.turn.name, { case: "permissionDecided", value: decided });
    this.live();
    const allowed = decided.decision !== PermissionDecision.DENY;
    if (tool === "AskUserQuestion") this.result(id, JSON.stringify(decided.updatedInput?.answers ?? {}));
    else this.result(id, allowed ? "done" : `Denied: ${decided.message}`, !allowed);
    return { allowed, message: decided.message, input: decided.updatedInput };
  }
}
