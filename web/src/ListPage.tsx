import { useEffect } from "preact/hooks";

import type { Competition } from "../../clients/typescript/src/index.ts";
import { CompetitionList } from "./competitions.ts";
import { client } from "./coordinator.ts";
import { count, sats } from "./format.ts";
import { Layout, Loading, Refusal } from "./Layout.tsx";
import { Badge, Fact, Meter, Time } from "./parts.tsx";
import { GROUPS, TERMINAL, type Group } from "./states.ts";
import { useObservable } from "./store.ts";
import { pool } from "./terms.ts";

// Kept while the app runs: who comes back from a competition sees the list at once, and it catches up.
const lists = new Map<Group, CompetitionList>();

function listOf(group: Group): CompetitionList {
  let list = lists.get(group);
  if (!list) {
    list = new CompetitionList(client, group);
    lists.set(group, list);
  }
  return list;
}

export function ListPage({ group }: { group: Group }) {
  const list = listOf(group);
  useObservable(list);
  useEffect(() => {
    list.start();
    return () => list.stop();
  }, [list]);
  const shown = list.competitions;
  return (
    <Layout title="Competitions" store={list} atHome>
      <nav class="groups" aria-label="Which competitions">
        {Object.entries(GROUPS).map(([name, { label }]) => (
          <a key={name} href={name === "all" ? "/" : `/?show=${name}`} aria-current={name === group ? "page" : undefined}>
            {label}
          </a>
        ))}
      </nav>
      {list.refusal && <Refusal store={list} title="The competitions cannot be shown." />}
      {!list.loaded ? (
        !list.refusal && <Loading store={list} />
      ) : shown.length === 0 ? (
        <p class="note">
          {GROUPS[group].none}
          {group === "all" && (
            <>
              {" "}
              With a development stack, <code>make demo</code> plays one.
            </>
          )}
        </p>
      ) : (
        <ul class="cards">
          {shown.map((competition) => (
            <Card key={competition.id} competition={competition} />
          ))}
        </ul>
      )}
      {list.hasMore && (
        <p class="more">
          <button type="button" disabled={list.loadingMore} onClick={() => void list.more()}>
            {list.loadingMore ? "Loading…" : "Show older ones"}
          </button>
          {list.moreFailed && <span role="alert"> That did not work; try again.</span>}
        </p>
      )}
    </Layout>
  );
}

function Card({ competition }: { competition: Competition }) {
  const terms = competition.terms;
  const places = terms?.total_allowed_entries ?? 0;
  const { sats: amount, most } = pool(competition);
  return (
    <li>
      <a class="card" href={`/competitions/${competition.id}`}>
        <div class="card-head">
          <h2>{terms?.name || "Without a name"}</h2>
          <Badge state={competition.state} />
        </div>
        <Meter label="Entries" value={competition.entries} of={places}>
          {count(competition.entries)} / {count(places)} entries
          {competition.paused && !TERMINAL.has(competition.state) && " · sale paused"}
        </Meter>
        <dl class="facts">
          <Fact name="Entry fee">{sats(terms?.entry_fee_sats ?? 0)}</Fact>
          <Fact name="Pool">
            {most && "up to "}
            {sats(amount)}
          </Fact>
          <Fact name="Starts">
            <Time at={terms?.start_observation_at} />
          </Fact>
          <Fact name="Ends">
            <Time at={terms?.end_observation_at} />
          </Fact>
        </dl>
      </a>
    </li>
  );
}
