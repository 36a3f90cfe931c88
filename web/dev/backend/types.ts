export { type Session, SessionSchema } from "../../src/gen/pointsman/session/v1/session_service_pb.ts";

/** A file of a scripted workspace. */
export interface ScriptedFile {
  data: Uint8Array;
  at: number;
}
