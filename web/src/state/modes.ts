import { PermissionMode } from "../gen/pointsman/session/v1/turn_pb.ts";

/** The permission mode of a session as this browser remembers it; undefined when it was never chosen here. */
export function rememberedMode(session: string): PermissionMode | undefined {
  const mode = Number(localStorage.getItem(keyOf(session)));
  return mode in PermissionMode && mode !== PermissionMode.UNSPECIFIED ? mode : undefined;
}

export function rememberMode(session: string, mode: PermissionMode): void {
  localStorage.setItem(keyOf(session), String(mode));
}

function keyOf(session: string): string {
  return `mode_${session.replace("sessions/", "")}`;
}
