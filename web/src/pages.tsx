import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import type {
  Competition,
  CompetitionEvent,
  CompetitionState,
  ConnectionState,
} from "../../clients/typescript/src/index.ts";
import { brief, dateTime, sats, shortId, timeOfDay } from "./format.ts";
import { client, useLive } from "./live.ts";
import { STATE_TEXT, TERMINAL, timeline } from "./states.ts";

const CONNECTION_TEXT: Record<ConnectionState, string> = {
  connecting: "Connecting",
  connected: "Live",
  reconnecting: "Reconnecting",
  offline: "Offline",
  closed: "Not connected",
};

function Connection({ state }: { state: ConnectionState }) {
  return (
    <p class={`connection ${state}`} role="status">
      <span class="dot" aria-hidden="true" />
      {CONNECTION_TEXT[state]}
    </p>
  );
}

function Page(props: { title: string; connection: ConnectionState; back?: boolean; children: ComponentChildren }) {
  useEffect(() => {
    document.title = `${props.title} · Coordinator`;
  }, [props.title]);
  return (
    <>
      <header>
        <a class="brand" href="/">
          Coordinator
        </a>
        <nav aria-label="Main">
          <a href="/" aria-current={props.back ? undefined : "page"}>
            Competitions
          </a>
          <a href="/api/docs">API</a>
        </nav>
        <Connection state={props.connection} />
      </header>
      <main>
        <h1>{props.title}</h1>
        {props.children}
      </main>
    </>
  );
}

function Badge({ state }: { state: CompetitionState }) {
  const tone = state === "completed" ? "good" : TERMINAL.has(state) ? "bad" : "busy";
  return <span class={`badge ${tone}`}>{STATE_TEXT[state].label}</span>;
}

function pool(competition: Competition): number {
  const terms = competition.terms;
  if (!terms) return 0;
  if (terms.total_competition_pool_sats) return terms.total_competition_pool_sats;
  const share = terms.entry_fee_sats - Math.floor((terms.entry_fee_sats * terms.coordinator_fee_percent) / 100);
  return share * terms.total_allowed_entries;
}

export function ListPage() {
  const live = useLive();
  const rows = [...live.competitions.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
  return (
    <Page title="Competitions" connection={live.connection}>
      {live.problem && !live.loaded ? (
        <p class="note bad" role="alert">
          The coordinator cannot be reached: {live.problem}
        </p>
      ) : !live.loaded ? (
        <p class="note">Loading…</p>
      ) : rows.length === 0 ? (
        <p class="note">
          There is no competition yet. With a development stack, <code>make demo</code> plays one.
        </p>
      ) : (
        <ul class="cards">
          {rows.map((competition) => (
            <li key={competition.id}>
              <a class="card" href={`/competitions/${competition.id}`}>
                <div class="card-head">
                  <strong>{competition.terms?.name}</strong>
                  <Badge state={competition.state} />
                </div>
                <dl class="facts">
                  <Fact name="Entries">
                    {competition.entries} / {competition.terms?.total_allowed_entries}
                  </Fact>
                  <Fact name="Entry fee">{sats(competition.terms?.entry_fee_sats ?? 0)}</Fact>
                  <Fact name="Pool">{sats(pool(competition))}</Fact>
                  <Fact name="Starts">{dateTime(competition.terms?.start_observation_at)}</Fact>
                </dl>
              </a>
            </li>
          ))}
        </ul>
      )}
    </Page>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

export function DetailPage({ id }: { id: string }) {
  const live = useLive(id);
  const competition = live.competitions.get(id);
  if (!competition) {
    return (
      <Page title="Competition" connection={live.connection} back>
        {live.problem ? (
          <p class="note bad" role="alert">
            {live.problem}
          </p>
        ) : (
          <p class="note">Loading…</p>
        )}
      </Page>
    );
  }
  return (
    <Page title={competition.terms?.name ?? "Competition"} connection={live.connection} back>
      <Summary competition={competition} />
      <div class="columns">
        <Timeline competition={competition} events={live.events} />
        <div>
          <Transactions competition={competition} />
          <Feed events={live.events} />
        </div>
      </div>
    </Page>
  );
}

function Summary({ competition }: { competition: Competition }) {
  const terms = competition.terms;
  return (
    <section aria-label="Summary">
      <p class="lead">
        <Badge state={competition.state} /> {STATE_TEXT[competition.state].meaning}
      </p>
      {competition.failure_reason && (
        <p class="note bad" role="alert">
          {competition.failure_reason}
        </p>
      )}
      {competition.progress_percent > 0 && !TERMINAL.has(competition.state) && (
        <progress max={100} value={competition.progress_percent} aria-label="keymeld progress" />
      )}
      <dl class="facts wide">
        <Fact name="Entries">
          {competition.entries} / {terms?.total_allowed_entries}
        </Fact>
        <Fact name="Tickets">
          {competition.paid_tickets} paid, {competition.reserved_tickets} reserved
        </Fact>
        <Fact name="Entry fee">{sats(terms?.entry_fee_sats ?? 0)}</Fact>
        <Fact name="Pool">{sats(pool(competition))}</Fact>
        <Fact name="Places">{terms?.number_of_places_win}</Fact>
        <Fact name="Window">
          {dateTime(terms?.start_observation_at)} to {dateTime(terms?.end_observation_at)}
        </Fact>
        <Fact name="Stations">{terms?.locations.join(", ")}</Fact>
        {competition.outcome && (
          <Fact name="Outcome">
            {competition.outcome === "exp"
              ? "expired: equal shares for all"
              : `players ${competition.winners.join(", ")}`}
          </Fact>
        )}
      </dl>
    </section>
  );
}

function Timeline(props: { competition: Competition; events: readonly CompetitionEvent[] }) {
  const { seen, times } = useMemo(() => {
    const seen = new Set<CompetitionState>();
    const times = new Map<CompetitionState, string | null>();
    for (const event of props.events) {
      if (event.kind !== "competition.created" && event.kind !== "competition.state_changed") continue;
      seen.add(event.state);
      times.set(event.state, event.occurred_at);
    }
    return { seen, times };
  }, [props.events]);
  return (
    <section aria-labelledby="timeline">
      <h2 id="timeline">Timeline</h2>
      <ol class="timeline">
        {timeline(props.competition.state, seen).map((step) => (
          <li key={step.state} class={step.status} aria-current={step.status === "current" ? "step" : undefined}>
            <span class="mark" aria-hidden="true" />
            <span class="step">{STATE_TEXT[step.state].label}</span>
            <span class="when">
              {step.status === "skipped" ? "not needed" : times.has(step.state) && timeOfDay(times.get(step.state))}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Transactions({ competition }: { competition: Competition }) {
  const [explorer, setExplorer] = useState("");
  const [failures, setFailures] = useState(0);
  useEffect(() => {
    let ended = false;
    // Until it is known ids are shown without links; a page that loads while the network is away asks again.
    const ask = () =>
      client.competition.getCoordinator({}).then(
        (facts) => ended || setExplorer(facts.esplora_url),
        () => ended || setFailures(failures + 1),
      );
    const timer = setTimeout(ask, failures === 0 ? 0 : Math.min(500 * 2 ** failures, 15_000));
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [failures]);
  const found = competition.transactions;
  const rows: [string, string][] = !found
    ? []
    : [
        ["Escrow", found.escrow_txid],
        ["Funding", found.funding_txid],
        ["Outcome", found.outcome_txid],
        ["Split", found.split_txid],
        ...found.closing_txids.map((txid): [string, string] => ["Closing", txid]),
        ...found.release_txids.map((txid): [string, string] => ["Release", txid]),
      ];
  const known = rows.filter(([, txid]) => txid);
  return (
    <section aria-labelledby="transactions">
      <h2 id="transactions">Transactions</h2>
      {known.length === 0 ? (
        <p class="quiet">None yet.</p>
      ) : (
        <dl class="txids">
          {known.map(([role, txid]) => (
            <div key={txid}>
              <dt>{role}</dt>
              <dd>{explorer ? <a href={`${explorer}/tx/${txid}`}>{shortId(txid)}</a> : shortId(txid)}</dd>
            </div>
          ))}
        </dl>
      )}
    </section>
  );
}

function Feed({ events }: { events: readonly CompetitionEvent[] }) {
  return (
    <section aria-labelledby="events">
      <h2 id="events">Events</h2>
      <ol class="feed" reversed>
        {[...events].reverse().map((event) => (
          <li key={event.sequence} value={event.sequence} data-sequence={event.sequence}>
            <span class="when">{timeOfDay(event.occurred_at)}</span>
            <span class="kind">{event.kind}</span>
            <span class="quiet">
              {Object.entries(event.data ?? {})
                .map(([name, value]) => brief(name, value))
                .join(" · ")}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

export function NotFound() {
  return (
    <Page title="There is nothing here" connection="connected" back>
      <p>
        <a href="/">All competitions</a>
      </p>
    </Page>
  );
}
