import { SandboxState } from "../gen/pointsman/session/v1/event_pb.ts";

const WORDS: Partial<Record<SandboxState, string>> = {
  [SandboxState.STARTING]: "starting",
  [SandboxState.READY]: "ready",
  [SandboxState.RESUMED]: "resumed",
  [SandboxState.RUNNING]: "running",
  [SandboxState.IDLE]: "idle",
  [SandboxState.PAUSED]: "paused",
  [SandboxState.HIBERNATED]: "hibernated",
};

/** How a sandbox is, in a word; empty when there is none, or in a state of a newer server. */
export function sandboxWord(state: SandboxState | undefined): string {
  return (state && WORDS[state]) || "";
}
