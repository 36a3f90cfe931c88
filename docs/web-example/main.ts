import { toJsonString } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { RouterService } from "./gen/pointsman/router/v1/router_service_pb.ts";
import { type Event, EventSchema } from "./gen/pointsman/session/v1/event_pb.ts";
import { SessionService } from "./gen/pointsman/session/v1/session_service_pb.ts";

const transport = createGrpcWebTransport({ baseUrl: location.origin });
const router = createClient(RouterService, transport);
const sessions = createClient(SessionService, transport);
const form = document.querySelector("form") as HTMLFormElement;
const output = document.querySelector("pre") as HTMLPreElement;

form.addEventListener("submit", (submit) => {
  submit.preventDefault();
  const data = new FormData(form);
  output.textContent = "";
  run(String(data.get("key")), String(data.get("prompt"))).catch((error) => {
    output.append(ConnectError.from(error).message); // its code, and what to do
  });
});

/** Runs a turn in a new session. If the connection breaks, goes on after the last event that arrived. */
async function run(key: string, prompt: string): Promise<void> {
  const options = { headers: { authorization: `Bearer ${key}` } };
  let turn = "";
  let afterSequence = 0n;
  const take = (event?: Event) => {
    if (!event || event.kind.case === "textDelta") return; // the same text comes whole in assistantMessage
    turn = event.turn;
    if (event.sequence > 0n) afterSequence = event.sequence; // live events have 0, and come but once
    output.append(`${event.kind.case} ${toJsonString(EventSchema, event)}\n`);
  };
  try {
    // The same requestId again would be the same turn, never a second one.
    const request = { prompt, requestId: crypto.randomUUID() };
    for await (const answer of router.runTurn(request, options)) take(answer.event);
  } catch (error) {
    if (!turn) throw error;
    const session = turn.split("/turns/")[0];
    const request = { session, turn, afterSequence };
    for await (const answer of sessions.watchEvents(request, options)) take(answer.event);
  }
}
