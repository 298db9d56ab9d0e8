import type { Competition, CompetitionEvent } from "../../clients/typescript/src/index.ts";
import { count, shortId } from "./format.ts";
import { Meter } from "./parts.tsx";
import { number, texts } from "./reduce.ts";
import { LIFE } from "./states.ts";

interface Round {
  label: string;
  done: number;
  total: number;
  over: boolean;
  missing: string[];
}

/** How far the keys and signatures of the contract are; nothing before they are begun. */
export function Keymeld(props: { competition: Competition; events: readonly CompetitionEvent[] }) {
  const at = LIFE.indexOf(props.competition.state);
  const begun = props.events.some((event) => event.kind.startsWith("keymeld."));
  if (at < LIFE.indexOf("awaiting_keygen") && !begun) return null;
  const rounds = [
    round("Keys", "keymeld.keygen_progress", props.events, at > LIFE.indexOf("awaiting_keygen")),
    round("Signatures", "keymeld.signing_progress", props.events, at > LIFE.indexOf("awaiting_signing")),
  ];
  return (
    <section aria-labelledby="keymeld">
      <h2 id="keymeld">Keys and signatures (keymeld)</h2>
      {rounds.map(({ label, done, total, over, missing }) => (
        <div key={label} class="round">
          <Meter label={label} value={over ? 1 : done} of={over ? 1 : total}>
            {label}: {over ? "complete" : total > 0 ? `${count(done)} of ${count(total)}` : "not begun"}
          </Meter>
          {!over && missing.length > 0 && (
            <p class="quiet">Waiting for the players with tickets {missing.map(shortId).join(", ")}.</p>
          )}
        </div>
      ))}
    </section>
  );
}

function round(label: string, kind: string, events: readonly CompetitionEvent[], over: boolean): Round {
  const data = events.findLast((event) => event.kind === kind)?.data ?? {};
  return {
    label,
    done: number(data["done"]) ?? 0,
    total: number(data["total"]) ?? 0,
    over,
    missing: texts(data["missing"]),
  };
}
