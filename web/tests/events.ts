import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Event, EventSchema } from "../src/gen/pointsman/session/v1/event_pb.ts";

export const TURN = "sessions/s/turns/t";

type Kind = NonNullable<MessageInitShape<typeof EventSchema>["kind"]>;

/** An event of the log; with `sequence` 0 one that is only sent live. */
export function event(sequence: number, kind: Kind, { turn = TURN, parent = "" } = {}): Event {
  return create(EventSchema, {
    sequence: BigInt(sequence),
    createTime: timestampFromMs(1_000 * sequence),
    turn,
    parentToolUseId: parent,
    kind,
  });
}

export function delta(text: string, offset: number, messageId = "m1", block = 0): Event {
  return event(0, { case: "textDelta", value: { text, messageId, block, offset: BigInt(offset) } });
}

export function message(sequence: number, text: string, messageId = "m1", block = 0): Event {
  return event(sequence, { case: "assistantMessage", value: { text, messageId, block } });
}

export function toolUse(sequence: number, id: string, parent = ""): Event {
  return event(
    sequence,
    { case: "toolUse", value: { id, tool: "Bash", input: { command: "ls" } } },
    { parent },
  );
}

export function toolResult(sequence: number, toolUseId: string, content = "ok"): Event {
  return event(sequence, { case: "toolResult", value: { toolUseId, content } });
}
