import type { Competition } from "../../clients/typescript/src/index.ts";
import { isScored, type CompetitionView } from "./competition.ts";
import { count, sats, shortId } from "./format.ts";
import { players, type Player } from "./players.ts";

/** Entries and tickets: what each has done and what became of it. */
export function Players({ view, competition }: { view: CompetitionView; competition: Competition }) {
  const rows = players(view.events, competition.state, view.board?.rows ?? []);
  const scored = isScored(competition);
  const payouts = rows.some((row) => row.payout);
  return (
    <section aria-labelledby="players">
      <h2 id="players">Entries and tickets</h2>
      {rows.length === 0 ? (
        <p class="quiet">Nobody has taken a ticket yet.</p>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-labelledby="players">
          <table>
            <thead>
              <tr>
                <th scope="col">Player</th>
                <th scope="col">Ticket</th>
                <th scope="col">Entry</th>
                <th scope="col">Signed</th>
                {scored && <th scope="col">Points</th>}
                {payouts && <th scope="col">Prize</th>}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <Row key={row.ticketId} row={row} competition={competition} scored={scored} payouts={payouts} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {scored && (
        <p class="quiet">
          {view.boardFailed ? "The scores could not be read. " : view.board?.final ? "The scores are final. " : ""}
          {!view.board?.final && (
            <button type="button" disabled={view.boardLoading} onClick={() => void view.loadBoard()}>
              {view.boardLoading ? "Reading the scores…" : "Read the scores so far"}
            </button>
          )}
        </p>
      )}
    </section>
  );
}

function Row(props: { row: Player; competition: Competition; scored: boolean; payouts: boolean }) {
  const { row, competition } = props;
  const place = row.index === null ? -1 : competition.winners.indexOf(row.index);
  const ranked = competition.winners.length <= (competition.terms?.number_of_places_win ?? 0);
  const signed = [row.releaseSigned && "release", row.fundingSigned && "funding"].filter(Boolean);
  return (
    <tr class={place >= 0 && ranked ? "winner" : undefined}>
      <th scope="row">
        {row.index ?? "–"}
        {place >= 0 && ranked && <span class="place">{place + 1}. place</span>}
      </th>
      <td title={row.ticketId}>
        <code>{shortId(row.ticketId)}</code> <span class="quiet">{row.ticket}</span>
      </td>
      <td title={row.entryId}>{row.entryId ? <code>{shortId(row.entryId)}</code> : "–"}</td>
      <td>{signed.join(", ") || "–"}</td>
      {props.scored && (
        <td>{row.points === null ? "–" : `${count(row.points)}${row.rank === null ? "" : ` (rank ${row.rank})`}`}</td>
      )}
      {props.payouts && (
        <td>
          {row.payoutSats !== null && `${sats(row.payoutSats)} `}
          {row.payout || "–"}
        </td>
      )}
    </tr>
  );
}
