import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { extname, join, normalize } from "node:path";
import { Code, type ConnectRouter, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { CONTENT_SECURITY_POLICY } from "../../security.ts";
import { RouterService } from "../../src/gen/pointsman/router/v1/router_service_pb.ts";
import { SandboxState } from "../../src/gen/pointsman/session/v1/event_pb.ts";
import { SessionService } from "../../src/gen/pointsman/session/v1/session_service_pb.ts";
import { TurnState } from "../../src/gen/pointsman/session/v1/turn_pb.ts";
import { serveInstallation } from "./installation.ts";
import { fail, find, world } from "./registry.ts";
import { decided, perform } from "./scripts.ts";
import { filesOf, serveTemplates } from "./templates.ts";
import { serveWorkspaces } from "./workspace.ts";
import { ScriptedSession } from "./world.ts";

const DIST = new URL("../../dist/", import.meta.url).pathname;
const KEY = "dev-key";

const authorize: Interceptor = (next) => (request) => {
  const given = request.header.get("authorization") ?? "";
  if (!request.url.endsWith("/GetHealth") && given !== `Bearer ${KEY}`) {
    throw given
      ? fail(Code.Unauthenticated, "CREDENTIAL_INVALID", "This API key is not one that was given out.")
      : fail(Code.Unauthenticated, "CREDENTIAL_MISSING", "No credential came with the call.");
  }
  return next(request);
};

const working = new Set<ScriptedSession>();
async function work(session: ScriptedSession): Promise<void> {
  if (working.has(session)) return;
  working.add(session);
  for (let turn = session.waiting[0]; turn; turn = session.waiting[0]) await perform(session, turn);
  working.delete(session);
}

function routes(connect: ConnectRouter): void {
  connect.service(RouterService, {
    startTurn(request) {
      let session = request.session ? find(request.session) : undefined;
      if (!session) {
        session = new ScriptedSession(request.account, "", request.model || "demo/offline");
        world.set(session.record.name, session);
      }
      const turn = session.enqueue(request.prompt, request.model, {
        options: request.options,
        requestId: request.requestId,
      });
      setTimeout(() => void work(session), 50);
      return { turn };
    },
    cancelTurn(request) {
      const session = find(request.name);
      const turn = session.turns.find((turn) => turn.name === request.name);
      if (turn?.state === TurnState.QUEUED) {
        turn.state = TurnState.CANCELLED;
        session.number();
        session.emit(turn.name, { case: "turnFinished", value: { outcome: TurnState.CANCELLED } });
      } else {
        session.cancelled.add(request.name);
      }
      return { turn };
    },
    decidePermission(request) {
      const value = decided(request.permissionId, request.decision, request.message, request.updatedInput);
      find(request.turn).decide(request.permissionId, value);
      return { decided: value };
    },
  });
  connect.service(SessionService, {
    createSession(request) {
      const session = new ScriptedSession(
        request.account,
        request.session?.title ?? "",
        request.session?.preferredModel || "demo/offline",
      );
      session.record.template = request.session?.template ?? "";
      for (const [path, file] of filesOf(session.record.template, request.snapshot))
        session.files.set(path, file);
      world.set(session.record.name, session);
      return { session: session.record };
    },
    getSession: (request) => ({ session: find(request.name).record }),
    listSessions(request) {
      const all = [...world.values()].map((session) => session.record);
      all.sort(
        (a, b) => Number(b.lastActivityTime?.seconds ?? 0n) - Number(a.lastActivityTime?.seconds ?? 0n),
      );
      const from = Number(request.pageToken || 0);
      const size = request.pageSize || 50;
      return {
        sessions: all.slice(from, from + size),
        nextPageToken: from + size < all.length ? String(from + size) : "",
      };
    },
    updateSession(request) {
      const { record } = find(request.session?.name ?? "");
      for (const path of request.updateMask?.paths ?? []) {
        if (path === "title") record.title = request.session?.title ?? "";
        if (path === "preferred_model") record.preferredModel = request.session?.preferredModel ?? "";
      }
      return { session: record };
    },
    deleteSession(request) {
      world.delete(find(request.name).record.name);
      return {};
    },
    forkSession(request) {
      const origin = find(request.name);
      const fork = new ScriptedSession(
        origin.record.account,
        request.title || origin.record.title,
        origin.record.preferredModel,
      );
      fork.record.forkedFrom = origin.record.name;
      for (const turn of origin.turns)
        fork.turns.push({ ...turn, name: turn.name.replace(origin.record.name, fork.record.name) });
      for (const event of origin.events)
        fork.events.push({ ...event, turn: event.turn.replace(origin.record.name, fork.record.name) });
      fork.record.lastSequence = BigInt(fork.events.length);
      for (const [path, file] of origin.files) fork.files.set(path, file);
      world.set(fork.record.name, fork);
      return { session: fork.record };
    },
    listTurns: (request) => ({ turns: find(request.session).turns }),
    getTurn(request) {
      const turn = find(request.name).turns.find((turn) => turn.name === request.name);
      if (!turn) throw fail(Code.NotFound, "TURN_NOT_FOUND", "There is no such turn.");
      return { turn };
    },
    updateTurn(request) {
      const session = find(request.turn?.name ?? "");
      const turn = session.turns.find((turn) => turn.name === request.turn?.name);
      if (!turn || turn.state !== TurnState.QUEUED)
        throw fail(Code.FailedPrecondition, "TURN_NOT_QUEUED", "The turn is not queued any more.");
      const fields = request.updateMask?.paths ?? [];
      if (fields.includes("prompt")) turn.prompt = request.turn?.prompt ?? "";
      if (fields.includes("position")) session.number(turn, request.turn?.position ?? 1);
      session.announce(turn, fields);
      return { turn };
    },
    async *watchEvents(request, context) {
      for await (const event of find(request.session).watch(request.afterSequence, context.signal))
        yield { event };
    },
  });
  serveTemplates(connect);
  serveWorkspaces(connect);
  serveInstallation(connect);
}

const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

async function serveFile(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = normalize(new URL(request.url ?? "/", "http://x").pathname).replace(/^\/$/, "/index.html");
  try {
    const data = await readFile(join(DIST, path));
    response.writeHead(200, {
      "content-type": TYPES[extname(path)] ?? "application/octet-stream",
      "content-security-policy": `${CONTENT_SECURITY_POLICY}; frame-ancestors 'none'`,
    });
    response.end(data);
  } catch {
    response.writeHead(404).end("Not found");
  }
}

/** Some sessions to look at. */
function furnish(): void {
  for (const title of ["Migrate the billing jobs", "Why is the import slow?", "Release notes for 1.4"]) {
    const session = new ScriptedSession("default", title, "demo/offline");
    session.record.sandbox = {
      $typeName: "pointsman.session.v1.SandboxStatus",
      state: SandboxState.HIBERNATED,
    };
    session.spend(0.42);
    world.set(session.record.name, session);
  }
}

/**
 * Listens on `port`, 0 for any. `POST /control/down?ms=2000` cuts every connection and refuses new ones for that
 * long: a server that dies and comes back.
 */
export function start(port: number): Promise<number> {
  furnish();
  const api = connectNodeAdapter({ routes, interceptors: [authorize] });
  const sockets = new Set<Socket>();
  let downUntil = 0;
  const server: Server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://x");
    if (url.pathname === "/control/down") {
      downUntil = Date.now() + Number(url.searchParams.get("ms") ?? 2000);
      for (const socket of sockets) socket.destroy();
    } else if (url.pathname.startsWith("/pointsman.")) api(request, response);
    else void serveFile(request, response);
  });
  server.on("connection", (socket) => {
    if (Date.now() < downUntil) return void socket.destroy();
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  return new Promise((resolve) =>
    server.listen(port, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)),
  );
}
