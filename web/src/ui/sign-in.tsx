import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { useState } from "preact/hooks";
import { failureOf } from "../api/failure.ts";
import { SessionService } from "../gen/pointsman/session/v1/session_service_pb.ts";
import { signedOutBecause, signIn } from "../state/credential.ts";
import { Spinner } from "./controls.tsx";
import { Mark } from "./icons.tsx";

/** Asks the server whether a credential is good, without keeping it. */
async function check(credential: string): Promise<void> {
  const transport = createGrpcWebTransport({ baseUrl: location.origin, defaultTimeoutMs: 10_000 });
  await createClient(SessionService, transport).listSessions(
    { pageSize: 1 },
    { headers: { authorization: `Bearer ${credential}` } },
  );
}

export function SignIn() {
  const [key, setKey] = useState("");
  const [error, setError] = useState(signedOutBecause.value);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const credential = key.trim();
    if (!/^[\x21-\x7e]+$/.test(credential)) {
      setError(
        credential
          ? "A key has no spaces and no special characters. Paste it again."
          : "Paste an API key first.",
      );
      return;
    }
    setBusy(true);
    try {
      await check(credential);
      signIn(credential);
    } catch (thrown) {
      const failure = failureOf(thrown);
      setError(`${failure.message} ${failure.advice}`.trim());
      setBusy(false);
    }
  };
  return (
    <main class="sign-in">
      <form onSubmit={submit} noValidate>
        <Mark size={40} />
        <h1>Pointsman</h1>
        <p class="lead">Watch agents work, and steer them.</p>
        <label class="field">
          <span>API key or token</span>
          <input
            type="password"
            name="credential"
            autocomplete="off"
            spellcheck={false}
            autofocus
            value={key}
            aria-invalid={error ? true : undefined}
            aria-describedby="sign-in-error sign-in-hint"
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <p id="sign-in-error" class="field-error" role="alert">
          {error}
        </p>
        <button class="button primary wide" type="submit" disabled={busy}>
          {busy ? <Spinner label="Checking the key" /> : "Sign in"}
        </button>
        <p id="sign-in-hint" class="hint">
          <code>make run</code> prints a key for development. It is kept in this tab only, and forgotten when
          you close it.
        </p>
      </form>
    </main>
  );
}
