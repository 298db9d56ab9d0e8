import { useState } from "preact/hooks";

import type { AdminSession } from "./session.ts";
import { extension, keySigner } from "./signers.ts";
import { useTask } from "./useTask.ts";

export function SignIn({ session }: { session: AdminSession }) {
  const [key, setKey] = useState("");
  const task = useTask();
  // Looked for anew at each drawing: extensions come when they are ready.
  const signer = extension();
  return (
    <>
      <p>An admin's Nostr key signs in here, and signs whatever it changes (NIP-98).</p>
      {signer && (
        <p>
          <button type="button" disabled={task.busy} onClick={() => void task.run(() => session.signIn(signer))}>
            Sign in with the browser's extension
          </button>
        </p>
      )}
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void task.run(async () => {
            await session.signIn(keySigner(key));
            setKey("");
          });
        }}
      >
        <label>
          Secret key
          <input
            type="password"
            autocomplete="off"
            required
            placeholder="nsec1…"
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
          <span class="quiet">Stays in this page's memory until you sign out or leave; it is never sent.</span>
        </label>
        <button type="submit" disabled={task.busy}>
          {task.busy ? "Signing in…" : "Sign in with this key"}
        </button>
      </form>
      {task.error && (
        <p class="note bad" role="alert">
          {task.error.message}
        </p>
      )}
    </>
  );
}
