import { useEffect, useMemo } from "preact/hooks";

import { CompetitionList } from "../competitions.ts";
import { client } from "../coordinator.ts";
import { sats } from "../format.ts";
import { Layout, Loading, Refusal } from "../Layout.tsx";
import { Fact } from "../parts.tsx";
import { useObservable } from "../store.ts";
import { CompetitionRow } from "./CompetitionRow.tsx";
import { Create } from "./Create.tsx";
import { AdminSession } from "./session.ts";
import { SignIn } from "./SignIn.tsx";
import { useTask } from "./useTask.ts";

// Kept while the app runs, not beyond: who looks at a competition and comes back is still signed in.
const session = new AdminSession();

/** What an operator does from a browser; everything else is `coordinator admin`. */
export function AdminPage() {
  const list = useMemo(() => new CompetitionList(client, "all"), []);
  useObservable(list);
  useObservable(session);
  const signedIn = session.signedIn;
  useEffect(() => {
    if (!signedIn) return;
    list.start();
    return () => list.stop();
  }, [list, signedIn]);
  if (!signedIn) {
    return (
      <Layout title="Administration">
        <SignIn session={session} />
      </Layout>
    );
  }
  return (
    <Layout title="Administration" store={list}>
      <SignedIn session={session} />
      <Wallet session={session} />
      <Create session={session} />
      <section aria-labelledby="administered">
        <h2 id="administered">Competitions</h2>
        {list.refusal && <Refusal store={list} title="The competitions cannot be shown." />}
        {!list.loaded && !list.refusal && <Loading store={list} />}
        {list.loaded && list.competitions.length === 0 && <p class="quiet">There is none yet.</p>}
        <ul class="rows">
          {list.competitions.map((competition) => (
            <CompetitionRow key={competition.id} competition={competition} session={session} />
          ))}
        </ul>
        {list.hasMore && (
          <button type="button" disabled={list.loadingMore} onClick={() => void list.more()}>
            Show older ones
          </button>
        )}
      </section>
    </Layout>
  );
}

function SignedIn({ session }: { session: AdminSession }) {
  return (
    <p>
      Signed in as <code class="txid">{session.npub}</code>{" "}
      <button type="button" onClick={() => void session.signOut()}>
        Sign out
      </button>
    </p>
  );
}

function Wallet({ session }: { session: AdminSession }) {
  const task = useTask();
  const read = (): void => void task.run(() => session.readBalance());
  useEffect(read, [session]);
  const balance = session.balance;
  return (
    <section aria-labelledby="wallet">
      <h2 id="wallet">Wallet</h2>
      {balance && (
        <dl class="facts wide">
          <Fact name="Confirmed">{sats(balance.confirmed_sats)}</Fact>
          <Fact name="Unconfirmed">{sats(balance.unconfirmed_sats)}</Fact>
          <Fact name="Locked">{sats(balance.locked_sats)}</Fact>
          <Fact name="Lightning channels">{sats(balance.lightning_sats)}</Fact>
        </dl>
      )}
      {task.error && (
        <p class="bad" role="alert">
          {task.error.message}
        </p>
      )}
      <p>
        <button type="button" disabled={task.busy} onClick={read}>
          {task.busy ? "Reading…" : "Read again"}
        </button>
      </p>
    </section>
  );
}
