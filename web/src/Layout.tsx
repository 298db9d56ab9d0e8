import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

import type { ConnectionState } from "../../clients/typescript/src/index.ts";
import { coordinator } from "./coordinator.ts";
import { ZONE, timeOfDay } from "./format.ts";
import { useObservable, type LiveStore } from "./store.ts";

const CONNECTION_TEXT: Record<ConnectionState, string> = {
  connecting: "Connecting",
  connected: "Live",
  reconnecting: "Reconnecting",
  offline: "Offline",
  closed: "Not connected",
};

interface LayoutProps {
  title: string;
  /** What keeps the page up to date, absent if nothing has to. */
  store?: LiveStore;
  atHome?: boolean;
  children: ComponentChildren;
}

/** What every page has around it. */
export function Layout({ title, store, atHome = false, children }: LayoutProps) {
  useObservable(coordinator);
  useEffect(() => coordinator.ask(), []);
  useEffect(() => {
    document.title = `${title} · Coordinator`;
  }, [title]);
  const facts = coordinator.facts;
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header>
        <a class="brand" href="/">
          Coordinator
        </a>
        {facts && facts.network !== "mainnet" && <span class="badge network">{facts.network}</span>}
        <nav aria-label="Main">
          <a href="/" aria-current={atHome ? "page" : undefined}>
            Competitions
          </a>
          <a href="/api/docs">API</a>
        </nav>
        {store && <Connection store={store} />}
      </header>
      <main id="main">
        <h1 tabIndex={-1}>{title}</h1>
        {facts?.warnings.map((warning) => (
          <p key={warning} class="note busy">
            {warning}
          </p>
        ))}
        {children}
      </main>
      <footer>
        <p>
          Times are those of {ZONE}.{facts && ` Coordinator ${facts.version} on ${facts.network}.`}{" "}
          <a href="/admin">Administration</a>
        </p>
      </footer>
    </>
  );
}

/** How fresh the page is. Who cannot see the dot is told when it changes. */
function Connection({ store }: { store: LiveStore }) {
  const waiting = store.connection === "reconnecting" || store.connection === "offline";
  return (
    <div class={`connection ${store.connection}`}>
      <p role="status">
        <span class="dot" aria-hidden="true" />
        {CONNECTION_TEXT[store.connection]}
        {waiting && store.lostAt !== null && `, as of ${timeOfDay(store.lostAt)}`}
      </p>
      {waiting && (
        <button type="button" onClick={() => store.retry()}>
          Retry now
        </button>
      )}
    </div>
  );
}

/** Why a page has nothing to show. */
export function Refusal({ store, title }: { store: LiveStore; title: string }) {
  return (
    <div class="note bad" role="alert">
      <p>
        <strong>{title}</strong> {store.refusal?.message}
      </p>
      <button type="button" onClick={() => store.retry()}>
        Try again
      </button>
    </div>
  );
}

/** Nothing to show yet; says so if that is because the server cannot be reached. */
export function Loading({ store }: { store: LiveStore }) {
  const waiting = store.connection === "reconnecting" || store.connection === "offline";
  return (
    <p class="note" aria-busy={!waiting}>
      {store.connection === "offline"
        ? "This device is offline. The page goes on by itself once it is back."
        : waiting
          ? "The coordinator cannot be reached at the moment. The page goes on by itself once it can."
          : "Loading…"}
    </p>
  );
}
