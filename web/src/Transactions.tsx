import type { Competition } from "../../clients/typescript/src/index.ts";
import { coordinator, transactionUrl } from "./coordinator.ts";
import { useObservable } from "./store.ts";

/** The competition's transactions, each with a link to the chain's server. */
export function Transactions({ competition }: { competition: Competition }) {
  const found = competition.transactions;
  const expired = competition.outcome === "exp" || competition.state === "expiry_broadcasted";
  const rows: [string, string][] = !found
    ? []
    : [
        ["Escrow", found.escrow_txid],
        ["Funding", found.funding_txid],
        [expired ? "Expiry" : "Outcome", found.outcome_txid],
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
              <dd>
                <TransactionId txid={txid} />
              </dd>
            </div>
          ))}
        </dl>
      )}
    </section>
  );
}

export function TransactionId({ txid }: { txid: string }) {
  useObservable(coordinator);
  const url = transactionUrl(coordinator.facts?.esplora_url, txid);
  return url ? (
    <a class="txid" href={url} rel="noreferrer">
      {txid}
    </a>
  ) : (
    <span class="txid">{txid}</span>
  );
}
