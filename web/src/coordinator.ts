import { CoordinatorClient, type GetCoordinatorResponse } from "../../clients/typescript/src/index.ts";
import { Observable } from "./store.ts";

export const client = new CoordinatorClient({ baseUrl: window.location.origin });

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;

/** Who runs this coordinator: asked until it answers, since a page may open while there is no connection. */
class CoordinatorFacts extends Observable {
  facts: GetCoordinatorResponse | null = null;
  #asking = false;

  ask(): void {
    if (this.facts || this.#asking) return;
    this.#asking = true;
    this.#attempt(FIRST_RETRY_MS);
  }

  #attempt(retryMs: number): void {
    client.competition.getCoordinator({}).then(
      (facts) => {
        this.facts = facts;
        this.changed();
      },
      // The pages do without meanwhile; only links and the footer depend on it.
      () => setTimeout(() => this.#attempt(Math.min(2 * retryMs, LAST_RETRY_MS)), retryMs),
    );
  }
}

export const coordinator = new CoordinatorFacts();

/** Where the chain's server shows a transaction, null if there is none to link to. */
export function transactionUrl(explorer: string | undefined, txid: string): string | null {
  if (!explorer || !/^https?:\/\//.test(explorer) || !/^[0-9a-f]{64}$/.test(txid)) return null;
  // Public Esploras serve the API under /api and the pages for people beside it.
  return `${explorer.replace(/\/+$/, "").replace(/\/api$/, "")}/tx/${txid}`;
}
