import { CoordinatorClient, type GetCoordinatorResponse } from "../../clients/typescript/src/index.ts";
import { Observable } from "./store.ts";

export const client = new CoordinatorClient({ baseUrl: window.location.origin });

/** Who runs this coordinator: read once, and again when a page opens if it was not to be had. */
class CoordinatorFacts extends Observable {
  facts: GetCoordinatorResponse | null = null;
  #asking = false;

  ask(): void {
    if (this.facts || this.#asking) return;
    this.#asking = true;
    client.competition.getCoordinator({}).then(
      (facts) => {
        this.facts = facts;
        this.#asking = false;
        this.changed();
      },
      // The pages do without; only links and the footer depend on it.
      () => (this.#asking = false),
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
