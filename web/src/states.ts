import type { CompetitionState } from "../../clients/typescript/src/index.ts";

/** A state in words: what it is called, and what is happening in it. */
export interface StateText {
  label: string;
  meaning: string;
}

export const STATE_TEXT: Record<CompetitionState, StateText> = {
  unspecified: { label: "Unknown", meaning: "" },
  created: { label: "Announced", meaning: "Tickets are on sale; nobody has entered yet." },
  collecting_entries: { label: "Collecting entries", meaning: "Tickets are on sale until it is full or starts." },
  awaiting_escrow: { label: "Awaiting escrow", meaning: "Players sign the way out of their escrow, then it is funded." },
  escrow_confirmed: { label: "Escrow confirmed", meaning: "Every ticket's escrow is on chain." },
  event_created: { label: "Event announced", meaning: "The oracle committed to the event." },
  entries_submitted: { label: "Entries submitted", meaning: "The oracle has every entry." },
  contract_created: { label: "Contract created", meaning: "Parameters and funding transaction are fixed." },
  awaiting_keygen: { label: "Generating keys", meaning: "keymeld aggregates the players' keys." },
  awaiting_signing: { label: "Signing", meaning: "keymeld signs every possible outcome." },
  funding_ready: { label: "Funding ready", meaning: "Everything is signed; players sign the funding." },
  funding_broadcasted: { label: "Funding broadcast", meaning: "The pot is on its way into the contract." },
  funding_confirmed: { label: "Funding confirmed", meaning: "The pot is locked; payments are being settled." },
  funding_settled: { label: "Payments settled", meaning: "Every ticket is paid for." },
  awaiting_attestation: { label: "Awaiting the oracle", meaning: "The oracle will attest to the outcome." },
  attested: { label: "Attested", meaning: "The outcome is known." },
  outcome_broadcasted: { label: "Outcome on chain", meaning: "Winners can take their prize over Lightning." },
  expiry_broadcasted: { label: "Expired", meaning: "The oracle stayed silent: equal shares for all." },
  delta_broadcasted: { label: "Prizes on chain", meaning: "Prizes that nobody asked for lie on chain." },
  completed: { label: "Completed", meaning: "Nothing is left to do." },
  failed: { label: "Failed", meaning: "It could not go on; every payment is returned." },
  cancelled: { label: "Cancelled", meaning: "It was called off; every payment is returned." },
};

const BEFORE_OUTCOME: readonly CompetitionState[] = [
  "created",
  "collecting_entries",
  "awaiting_escrow",
  "escrow_confirmed",
  "event_created",
  "entries_submitted",
  "contract_created",
  "awaiting_keygen",
  "awaiting_signing",
  "funding_ready",
  "funding_broadcasted",
  "funding_confirmed",
  "funding_settled",
  "awaiting_attestation",
];

export const TERMINAL: ReadonlySet<CompetitionState> = new Set(["completed", "failed", "cancelled"]);

/** One step of a timeline. */
export interface Step {
  state: CompetitionState;
  status: "done" | "current" | "ahead" | "skipped";
}

/**
 * The steps of a competition in order, from what was seen of it. The path forks: after the attestation it goes
 * by the outcome, without one by the expiry; before funding it can end in a failure.
 */
export function timeline(current: CompetitionState, seen: ReadonlySet<CompetitionState>): Step[] {
  const ended = current === "failed" || current === "cancelled";
  const expired = current === "expiry_broadcasted" || seen.has("expiry_broadcasted");
  const path: CompetitionState[] = ended
    ? [...BEFORE_OUTCOME.filter((state) => seen.has(state)), current]
    : [
        ...BEFORE_OUTCOME,
        ...((expired ? ["expiry_broadcasted"] : ["attested", "outcome_broadcasted"]) as CompetitionState[]),
        "delta_broadcasted",
        "completed",
      ];
  const at = path.indexOf(current);
  return path.map((state, index) => {
    if (index === at) return { state, status: "current" };
    if (index > at) return { state, status: "ahead" };
    // With everybody paid over Lightning nothing has to be split on chain.
    const skipped = state === "delta_broadcasted" && current === "completed" && !seen.has(state);
    return { state, status: skipped ? "skipped" : "done" };
  });
}
