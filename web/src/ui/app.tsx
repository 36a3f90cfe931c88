import { useEffect } from "preact/hooks";
import { forget } from "../conversation/stores.ts";
import { credential } from "../state/credential.ts";
import { drawer } from "../state/drawer.ts";
import { readModels } from "../state/models.ts";
import { attempt } from "../state/notices.ts";
import { route } from "../state/route.ts";
import { keepSessionsFresh, sessionList } from "../state/sessions.ts";
import { NewSession } from "./new-session.tsx";
import { Notices } from "./notices.tsx";
import { SessionPage } from "./session-page.tsx";
import { Shortcuts, useShortcuts } from "./shortcuts.tsx";
import { Sidebar } from "./sidebar.tsx";
import { SignIn } from "./sign-in.tsx";
import { StatusPage } from "./status/page.tsx";

export function App() {
  return (
    <>
      {credential.value ? <SignedIn key={credential.value} /> : <SignIn />}
      <Notices />
    </>
  );
}

function SignedIn() {
  useShortcuts();
  useEffect(() => {
    void attempt("The models could not be read", readModels);
    const stop = keepSessionsFresh();
    return () => {
      stop();
      forget();
      sessionList.value = undefined;
    };
  }, []);
  useEffect(() => {
    drawer.value = false;
  }, [route.value]);
  return (
    <div class={`shell ${drawer.value ? "drawer-open" : ""}`}>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the page
      </button>
      <Sidebar />
      <button
        type="button"
        class="scrim"
        tabIndex={-1}
        aria-label="Close the list of sessions"
        onClick={() => {
          drawer.value = false;
        }}
      />
      <Page />
      <Shortcuts />
    </div>
  );
}

function Page() {
  const at = route.value;
  if (at.page === "status") return <StatusPage />;
  if (at.page === "session") return <SessionPage key={at.session} name={at.session} />;
  return <NewSession />;
}
