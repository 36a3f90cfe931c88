import type { JsonObject } from "@bufbuild/protobuf";
import { router, sessions } from "../api/clients.ts";
import { newId } from "../api/ids.ts";
import type { PermissionDecision } from "../gen/pointsman/session/v1/event_pb.ts";
import type { PermissionMode, Turn } from "../gen/pointsman/session/v1/turn_pb.ts";
import { rememberModel } from "../state/models.ts";
import { attempt, notify } from "../state/notices.ts";
import { go } from "../state/route.ts";
import { dropSession, putSession, readSessions } from "../state/sessions.ts";
import type { Permission } from "./rows.ts";
import type { SessionStore } from "./store.ts";
import { forget, storeOf } from "./stores.ts";

/** What a prompt is sent with. */
export interface Choice {
  model: string;
  mode: PermissionMode;
}

/**
 * Sends a prompt. True: it is durable. The caller makes `requestId` once per prompt, so that pressing “send” again
 * after a failure cannot make it run twice.
 */
export async function send(
  store: SessionStore,
  prompt: string,
  choice: Choice,
  requestId: string,
): Promise<boolean> {
  const answer = await attempt("The prompt was not sent", () =>
    router.startTurn({
      session: store.name,
      prompt,
      model: choice.model,
      requestId,
      options: { permissionMode: choice.mode },
    }),
  );
  if (answer?.turn) store.putTurn(answer.turn);
  if (answer) void readSessions();
  return answer !== undefined;
}

/**
 * Sends a first prompt, which makes its session: only then may triage answer it directly, without a sandbox. Returns
 * the session, or nothing when it failed.
 */
export async function sendFirst(
  account: string,
  prompt: string,
  choice: Choice,
  requestId: string,
): Promise<string | undefined> {
  const answer = await attempt("The prompt was not sent", () =>
    router.startTurn({
      account: account.trim(),
      prompt,
      model: choice.model,
      requestId,
      options: { permissionMode: choice.mode },
    }),
  );
  if (!answer?.turn) return undefined;
  storeOf(answer.turn.session).putTurn(answer.turn);
  void readSessions();
  return answer.turn.session;
}

/** What a session is made with; empty strings for what the server is to choose. */
export interface NewSession {
  title?: string;
  account?: string;
  model?: string;
  /** `templates/{id}` to begin with. */
  template?: string;
  /** A snapshot, whose files it begins with. */
  snapshot?: string;
}

/** Makes a session. */
export async function createSession(init: NewSession): Promise<string | undefined> {
  const answer = await attempt("The session was not made", () =>
    sessions.createSession({
      account: init.account?.trim(),
      requestId: newId(),
      session: { title: init.title?.trim(), preferredModel: init.model, template: init.template },
      snapshot: init.snapshot,
    }),
  );
  if (answer?.session) putSession(answer.session);
  return answer?.session?.name;
}

export async function cancel(turn: string): Promise<void> {
  await attempt("The turn was not stopped", () => router.cancelTurn({ name: turn, requestId: newId() }));
}

export async function editPrompt(store: SessionStore, turn: Turn, prompt: string): Promise<void> {
  const answer = await attempt("The prompt was not changed", () =>
    sessions.updateTurn({
      turn: { name: turn.name, prompt },
      updateMask: { paths: ["prompt"] },
      requestId: newId(),
    }),
  );
  if (answer?.turn) store.putTurn(answer.turn);
}

/** Moves a waiting turn; 1 is next within its session. */
export async function moveTurn(store: SessionStore, turn: string, position: number): Promise<void> {
  const answer = await attempt("The turn was not moved", () =>
    sessions.updateTurn({
      turn: { name: turn, position },
      updateMask: { paths: ["position"] },
      requestId: newId(),
    }),
  );
  if (answer?.turn) store.putTurn(answer.turn);
}

/** Decides a permission request. True: the decision stands. */
export async function decide(
  permission: Permission,
  decision: PermissionDecision,
  message = "",
  updatedInput?: JsonObject,
): Promise<boolean> {
  const answer = await attempt("The decision did not arrive", () =>
    router.decidePermission({
      turn: permission.turn,
      permissionId: permission.request.permissionId,
      decision,
      message,
      updatedInput,
      requestId: newId(),
    }),
  );
  return answer !== undefined;
}

/** Chooses the model of a session, on the server and then in this browser. Shown at once, and taken back on failure. */
export async function chooseModel(store: SessionStore, model: string): Promise<void> {
  const before = store.session.value;
  if (before) store.session.value = { ...before, preferredModel: model };
  const answer = await attempt("The model was not changed", () =>
    sessions.updateSession({
      session: { name: store.name, preferredModel: model },
      updateMask: { paths: ["preferred_model"] },
      requestId: newId(),
    }),
  );
  if (answer?.session) {
    store.session.value = answer.session;
    rememberModel(store.name, model);
  } else if (before) {
    store.session.value = { ...(store.session.value ?? before), preferredModel: before.preferredModel };
  }
}

export async function rename(store: SessionStore, title: string): Promise<void> {
  const answer = await attempt("The session was not renamed", () =>
    sessions.updateSession({
      session: { name: store.name, title: title.trim() },
      updateMask: { paths: ["title"] },
      requestId: newId(),
    }),
  );
  if (!answer?.session) return;
  store.session.value = answer.session;
  putSession(answer.session);
}

/** Forks a session after a turn, or after its newest finished one, and goes there. */
export async function fork(session: string, turn = ""): Promise<void> {
  const answer = await attempt("The session was not forked", () =>
    sessions.forkSession({ name: session, turn, requestId: newId() }),
  );
  if (!answer?.session) return;
  putSession(answer.session);
  notify("This is the fork: what you do here leaves its origin as it is.");
  go({ page: "session", session: answer.session.name });
}

export async function remove(session: string): Promise<void> {
  const done = await attempt("The session was not deleted", () => sessions.deleteSession({ name: session }));
  if (!done) return;
  forget(session);
  dropSession(session);
  notify("The session and its files are deleted.");
  go({ page: "new" });
}
