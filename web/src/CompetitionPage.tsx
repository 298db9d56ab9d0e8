import { useEffect, useMemo, useState } from "preact/hooks";

import { ApiError, type Competition } from "../../clients/typescript/src/index.ts";
import { CompetitionView } from "./competition.ts";
import { client } from "./coordinator.ts";
import { outcomeText } from "./describe.ts";
import { Feed } from "./Feed.tsx";
import { count, sats, words } from "./format.ts";
import { Keymeld } from "./Keymeld.tsx";
import { Layout, Loading, Refusal } from "./Layout.tsx";
import { Badge, Fact, Meter, Time } from "./parts.tsx";
import { Players } from "./Players.tsx";
import { TERMINAL, stateText } from "./states.ts";
import { useObservable } from "./store.ts";
import { pool, prizePercents } from "./terms.ts";
import { Timeline } from "./Timeline.tsx";
import { Transactions } from "./Transactions.tsx";

export function CompetitionPage({ id }: { id: string }) {
  const view = useMemo(() => new CompetitionView(client, id), [id]);
  useObservable(view);
  useEffect(() => {
    view.start();
    return () => view.stop();
  }, [view]);
  const { competition, refusal } = view;
  const missing = refusal instanceof ApiError && (refusal.status === 404 || refusal.status === 400);
  return (
    <Layout title={competition?.terms?.name || "Competition"} store={view}>
      {refusal && (
        <Refusal
          store={view}
          title={missing ? "There is no such competition." : "The competition cannot be shown."}
        />
      )}
      {competition ? (
        <>
          <Summary competition={competition} />
          <div class="columns">
            <Timeline competition={competition} events={view.events} />
            <div>
              <Keymeld competition={competition} events={view.events} />
              <Players view={view} competition={competition} />
              <Transactions competition={competition} />
              <Feed view={view} />
            </div>
          </div>
        </>
      ) : (
        !refusal && <Loading store={view} />
      )}
    </Layout>
  );
}

function Summary({ competition }: { competition: Competition }) {
  const terms = competition.terms;
  const { sats: amount, most } = pool(competition);
  const places = terms?.number_of_places_win ?? 0;
  return (
    <section aria-label="Summary">
      <Announcer competition={competition} />
      <p class="lead">
        <Badge state={competition.state} /> {stateText(competition.state).meaning}{" "}
        <span class="quiet">
          Since <Time at={competition.state_changed_at} />.
        </span>
      </p>
      {competition.paused && !TERMINAL.has(competition.state) && (
        <p class="note busy">The sale of tickets is paused.</p>
      )}
      {competition.failure_reason && (
        <p class="note bad">
          <strong>Why it {competition.state === "cancelled" ? "was cancelled" : "failed"}:</strong>{" "}
          {competition.failure_reason}
        </p>
      )}
      {competition.outcome && (
        <p class="note good">
          <strong>Outcome:</strong> {outcome(competition)}.
        </p>
      )}
      <Meter label="Entries" value={competition.entries} of={terms?.total_allowed_entries ?? 0}>
        {count(competition.entries)} / {count(terms?.total_allowed_entries ?? 0)} entries
      </Meter>
      <dl class="facts wide">
        <Fact name="Tickets">
          {count(competition.paid_tickets)} paid, {count(competition.reserved_tickets)} reserved
        </Fact>
        <Fact name="Entry fee">
          {sats(terms?.entry_fee_sats ?? 0)}
          {!!terms?.coordinator_fee_percent && (
            <span class="quiet"> ({terms.coordinator_fee_percent}% for the coordinator)</span>
          )}
        </Fact>
        <Fact name="Pool">
          {most && "up to "}
          {sats(amount)}
        </Fact>
        <Fact name={places === 1 ? "Prize" : `Prizes of ${places} places`}>
          {prizePercents(places)
            .map((percent) => `${percent}%`)
            .join(" / ")}
        </Fact>
        <Fact name="Needs at least">{count(terms?.min_entries ?? 0)} entries</Fact>
        <Fact name="Window starts">
          <Time at={terms?.start_observation_at} relative={!TERMINAL.has(competition.state)} />
        </Fact>
        <Fact name="Window ends">
          <Time at={terms?.end_observation_at} />
        </Fact>
        <Fact name="Oracle attests">
          <Time at={terms?.signing_at} />
        </Fact>
        <Fact name="Stations">{terms?.locations.join(", ") || "–"}</Fact>
        <Fact name={`Predictions (${count(terms?.number_of_values_per_entry ?? 0)} each)`}>
          {terms?.scoring_fields.map(words).join(", ") || "–"}
        </Fact>
      </dl>
    </section>
  );
}

function outcome(competition: Competition): string {
  const places = competition.terms?.number_of_places_win ?? 0;
  if (competition.outcome !== "exp" && competition.winners.length > places) {
    return "no ranking, equal shares for all";
  }
  return outcomeText(competition.outcome, competition.winners);
}

/** Tells who reads by ear of a new state, and of nothing else: the events are too many. */
function Announcer({ competition }: { competition: Competition }) {
  const [first] = useState(competition.state);
  const told = competition.state === first ? "" : `Now: ${stateText(competition.state).label}`;
  return (
    <p class="visually-hidden" aria-live="polite">
      {told}
    </p>
  );
}
