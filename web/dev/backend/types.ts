/** A file of a scripted workspace. */
export interface ScriptedFile {
  data: Uint8Array;
  at: number;
}
