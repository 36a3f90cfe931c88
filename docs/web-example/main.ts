import { createClient, ConnectError } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { RouterService } from "./gen/pointsman/router/v1/router_service_pb.ts";
import type { Event } from "./gen/pointsman/session/v1/event_pb.ts";
import { SessionService } from "./gen/pointsman/session/v1/session_service_pb.ts";

const transport = createGrpcWebTransport({ baseUrl: location.origin });
const router = createClient(RouterService, transport);
const sessions = createClient(SessionService, transport);

const form = document.querySelector("form")!;
const output = document.querySelector("pre")!;

form.addEventListener("submit", (submit) => {
  submit.preventDefault();
  const data = new FormData(form);
  output.textContent = "";
  run(String(data.get("key")), String(data.get("prompt"))).catch((error) => {
    output.append(`${ConnectError.from(error).message}\n`); // its code, and what to do
  });
});

/** Runs a turn in a new session. If the connection breaks, goes on after the last event that arrived. */
async function run(key: string, prompt: string): Promise<void> {
  const options = { headers: { authorization: `Bearer ${key}` } };
  let last: Event | undefined;
  const take = (event: Event | undefined) => {
    if (!event) return;
    if (event.sequence > 0n) last = event; // those with 0 are live text, which comes again whole
    print(event);
  };
  try {
    for await (const answer of router.runTurn({ prompt, requestId: crypto.randomUUID() }, options)) take(answer.event);
  } catch (error) {
    if (!last) throw error;
    const session = last.turn.split("/turns/")[0];
    const from = { session, turn: last.turn, afterSequence: last.sequence };
    for await (const answer of sessions.watchEvents(from, options)) take(answer.event);
  }
}

function print(event: Event): void {
  const { kind } = event;
  if (kind.case === "textDelta") return; // the same text comes whole in assistantMessage
  const text =
    kind.case === "assistantMessage" ? kind.value.text
    : kind.case === "toolUse" ? `${kind.value.tool} ${JSON.stringify(kind.value.input)}`
    : kind.case === "toolResult" ? kind.value.content
    : kind.case === "fileChange" ? kind.value.diff
    : kind.case === "turnFinished" ? kind.value.error?.message || kind.value.result
    : "";
  output.append(`${event.sequence} ${kind.case} ${text}\n`);
}
