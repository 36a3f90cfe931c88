import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { extname, join, normalize } from "node:path";
import { timestampFromMs, timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { CONTENT_SECURITY_POLICY } from "../../security.ts";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { ModelService, UsageDimension } from "../../src/gen/pointsman/llm/v1/model_service_pb.ts";
import { RouterService } from "../../src/gen/pointsman/router/v1/router_service_pb.ts";
import { SandboxState } from "../../src/gen/pointsman/session/v1/event_pb.ts";
import { SessionService } from "../../src/gen/pointsman/session/v1/session_service_pb.ts";
import { TurnState } from "../../src/gen/pointsman/session/v1/turn_pb.ts";
import { FileType, WorkspaceService } from "../../src/gen/pointsman/session/v1/workspace_service_pb.ts";
import { SystemService } from "../../src/gen/pointsman/system/v1/system_service_pb.ts";
import { decided, perform } from "./scripts.ts";
import { ScriptedSession } from "./world.ts";

const DIST = new URL("../../dist/", import.meta.url).pathname;
const KEY = "dev-key";

const world = new Map<string, ScriptedSession>();

function fail(code: Code, reason: string, message: string): ConnectError {
  return new ConnectError(message, code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, domain: "pointsman" } },
  ]);
}

const authorize: Interceptor = (next) => (request) => {
  const given = request.header.get("authorization") ?? "";
  if (!request.url.endsWith("/GetHealth") && given !== `Bearer ${KEY}`) {
    throw given
      ? fail(Code.Unauthenticated, "CREDENTIAL_INVALID", "This API key is not one that was given out.")
      : fail(Code.Unauthenticated, "CREDENTIAL_MISSING", "No credential came with the call.");
  }
  return next(request);
};

function find(name: string): ScriptedSession {
  const session = world.get(name.split("/").slice(0, 2).join("/"));
  if (!session) throw fail(Code.NotFound, "SESSION_NOT_FOUND", `There is no session ${name}.`);
  return session;
}

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
      for (const other of session.waiting)
        session.emit(other.name, {
          case: "turnUpdated",
          value: { position: other.position, fields: other === turn ? fields : ["position"] },
        });
      return { turn };
    },
    async *watchEvents(request, context) {
      for await (const event of find(request.session).watch(request.afterSequence, context.signal))
        yield { event };
    },
  });
  connect.service(WorkspaceService, {
    listFiles(request) {
      const { files } = find(request.session);
      const prefix = request.path ? `${request.path}/` : "";
      const entries = new Map<
        string,
        { path: string; type: FileType; sizeBytes: bigint; updateTime: ReturnType<typeof timestampNow> }
      >();
      for (const [path, file] of files) {
        if (!path.startsWith(prefix)) continue;
        const head = path.slice(prefix.length).split("/");
        const isFile = head.length === 1;
        const at = prefix + head[0];
        entries.set(at, {
          path: at,
          type: isFile ? FileType.FILE : FileType.DIRECTORY,
          sizeBytes: BigInt(isFile ? file.data.length : 0),
          updateTime: timestampFromMs(file.at),
        });
      }
      return { files: [...entries.values()].sort((a, b) => a.path.localeCompare(b.path)) };
    },
    async *readFile(request) {
      const file = find(request.session).files.get(request.path);
      if (!file) throw fail(Code.NotFound, "FILE_NOT_FOUND", `There is no file ${request.path}.`);
      const from = Number(request.offset);
      const to = Number(request.limit) ? from + Number(request.limit) : file.data.length;
      yield {
        file: { path: request.path, type: FileType.FILE, sizeBytes: BigInt(file.data.length) },
        data: file.data.slice(from, to),
      };
    },
    writeFile(request) {
      find(request.session).files.set(request.path, { data: request.data, at: Date.now() });
      return { file: { path: request.path, type: FileType.FILE, sizeBytes: BigInt(request.data.length) } };
    },
    deleteFile(request) {
      const { files } = find(request.session);
      for (const path of [...files.keys()])
        if (path === request.path || path.startsWith(`${request.path}/`)) files.delete(path);
      return {};
    },
    diffWorkspace(request) {
      const changes = find(request.session).events.flatMap((event) =>
        event.kind.case === "fileChange" && (!request.sinceTurn || event.turn === request.sinceTurn)
          ? [event.kind.value]
          : [],
      );
      return { changes };
    },
    createSnapshot(request) {
      const session = find(request.session);
      const snapshot = {
        name: `${request.session}/snapshots/${randomUUID()}`,
        title: request.title,
        files: new Map(session.files),
        at: timestampNow(),
      };
      session.snapshots.unshift(snapshot);
      return {
        snapshot: { name: snapshot.name, title: snapshot.title, createTime: snapshot.at, sizeBytes: 1234n },
      };
    },
    listSnapshots: (request) => ({
      snapshots: find(request.session).snapshots.map(({ name, title, at }) => ({
        name,
        title,
        createTime: at,
        sizeBytes: 1234n,
      })),
    }),
    restoreSnapshot(request) {
      const session = find(request.name);
      const snapshot = session.snapshots.find((snapshot) => snapshot.name === request.name);
      session.files.clear();
      for (const [path, file] of snapshot?.files ?? []) session.files.set(path, file);
      return {};
    },
  });
  connect.service(ModelService, {
    listModels: () => ({
      models: [
        {
          name: "demo/offline",
          displayName: "Demo model",
          provider: "demo",
          available: true,
          supportsTools: true,
          isDefault: true,
          description: "Works offline; does sums and small file tasks.",
        },
        {
          name: "anthropic/claude-sonnet-5",
          displayName: "Claude Sonnet 5",
          provider: "anthropic",
          available: true,
          supportsTools: true,
          contextWindow: 200000n,
          inputPricePerMillionUsd: 3,
          outputPricePerMillionUsd: 15,
        },
        {
          name: "groq/llama-3.3-70b-versatile",
          displayName: "Llama 3.3 70B",
          provider: "groq",
          available: false,
          missingCredential: "GROQ_API_KEY",
          supportsTools: true,
        },
      ],
      wildcards: ["groq/*", "openrouter/*", "anthropic/*"],
    }),
    getUsage(request) {
      if (!request.groupBy.includes(UsageDimension.DAY))
        return {
          rows: [
            {
              usage: { inputTokens: 120000n, outputTokens: 32000n, costUsd: 1.93, modelCalls: 340 },
              failedCalls: 7n,
              retries: 12n,
            },
          ],
        };
      const rows = Array.from({ length: 14 }, (_, index) => {
        const day = new Date(Date.now() - (13 - index) * 86_400_000).toISOString().slice(0, 10);
        const scale = 1 + Math.sin(index * 1.7) * 0.6 + index / 9;
        return ["demo/offline", "anthropic/claude-sonnet-5"].map((model, other) => ({
          day,
          model,
          failedCalls: BigInt(index % 5 === 3 ? 4 : 0),
          retries: 1n,
          usage: {
            inputTokens: BigInt(Math.round(42000 * scale * (other + 0.5))),
            outputTokens: BigInt(Math.round(9000 * scale)),
            costUsd: other * 0.21 * scale,
            modelCalls: Math.round(20 * scale),
          },
        }));
      }).flat();
      return { rows };
    },
  });
  connect.service(SystemService, {
    getHealth: () => ({
      status: "healthy",
      timestamp: timestampNow(),
      services: ["router", "session", "runner", "llm-proxy"].map((service) => ({
        service,
        status: "healthy",
        timestamp: timestampNow(),
      })),
    }),
    getDebug: () => ({
      services: ["router", "session", "runner", "llm-proxy"].map((service, index) => ({
        service,
        uptime: { seconds: BigInt(86400 + index * 100) },
        pid: 100 + index,
        memoryBytes: BigInt((index + 1) * 60_000_000),
        version: "0.1.0",
      })),
    }),
  });
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
    session.record.usage!.costUsd = 0.42;
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
