import { signal } from "@preact/signals";

/** The API key or token of this tab. Lives in `sessionStorage`: gone with the tab, never in a URL. */
const KEY = "pointsman.credential";

export const credential = signal(sessionStorage.getItem(KEY) ?? "");

/** Why the tab was signed out by itself; empty when nobody was. */
export const signedOutBecause = signal("");

export function signIn(value: string): void {
  sessionStorage.setItem(KEY, value);
  signedOutBecause.value = "";
  credential.value = value;
}

export function signOut(because = ""): void {
  sessionStorage.removeItem(KEY);
  signedOutBecause.value = because;
  credential.value = "";
}
