import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import type { ScriptedSession } from "./world.ts";

/** The sessions that there are, by name. */
export const world = new Map<string, ScriptedSession>();

/** An error as Pointsman sends them. */
export function fail(code: Code, reason: string, message: string): ConnectError {
  return new ConnectError(message, code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, domain: "pointsman" } },
  ]);
}

/** The session that a name of it, or of something in it, means. */
export function find(name: string): ScriptedSession {
  const session = world.get(name.split("/").slice(0, 2).join("/"));
  if (!session) throw fail(Code.NotFound, "SESSION_NOT_FOUND", `There is no session ${name}.`);
  return session;
}
