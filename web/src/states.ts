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

/** The words for a state; one that this program does not know (a newer server's) is shown as it is. */
export function stateText(state: CompetitionState): StateText {
  return STATE_TEXT[state] ?? { label: String(state), meaning: "" };
}

/** The life of a competition in order. expiry_broadcasted stands in for the two before it. */
export const LIFE: readonly CompetitionState[] = [
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
  "attested",
  "outcome_broadcasted",
  "expiry_broadcasted",
  "delta_broadcasted",
  "completed",
];

const OPEN: readonly CompetitionState[] = ["created", "collecting_entries"];
const ENDED: readonly CompetitionState[] = ["completed", "failed", "cancelled"];

export const TERMINAL: ReadonlySet<CompetitionState> = new Set(ENDED);

export type Group = "all" | "open" | "running" | "ended";

/** What the list can be narrowed to. */
export const GROUPS: Record<Group, { label: string; none: string; states: readonly CompetitionState[] | null }> = {
  all: { label: "All", none: "There is no competition yet.", states: null },
  open: { label: "Open", none: "No competition sells tickets at the moment.", states: OPEN },
  running: {
    label: "Running",
    none: "No competition is under way at the moment.",
    states: LIFE.filter((state) => !OPEN.includes(state) && !ENDED.includes(state)),
  },
  ended: { label: "Ended", none: "No competition has ended yet.", states: ENDED },
};

/** One step of a timeline. */
export interface Step {
  state: CompetitionState;
  /** skipped: it went another way; ahead: still to come, or never to come after a failure. */
  status: "done" | "current" | "ahead" | "skipped";
}

/**
 * All states of a competition in order, from what was seen of it. The path forks: after the attestation it goes
 * by the outcome, without one by the expiry. A failure or cancellation comes after the last state that was
 * reached.
 */
export function timeline(current: CompetitionState, seen: ReadonlySet<CompetitionState>): Step[] {
  if (current === "failed" || current === "cancelled") {
    const reached = LIFE.findLastIndex((state) => seen.has(state));
    const steps: Step[] = LIFE.map((state, index) => ({ state, status: index <= reached ? "done" : "ahead" }));
    // The first entry closes one with two places at once: what was passed through was passed.
    return [...steps.slice(0, reached + 1), { state: current, status: "current" }, ...steps.slice(reached + 1)];
  }
  const at = LIFE.indexOf(current);
  const expired = current === "expiry_broadcasted" || seen.has("expiry_broadcasted");
  return LIFE.map((state, index) => {
    if (index === at) return { state, status: "current" };
    if (index > at) {
      const other = state === "expiry_broadcasted" && (current === "attested" || current === "outcome_broadcasted");
      return { state, status: other ? "skipped" : "ahead" };
    }
    return { state, status: isSkipped(state, current, expired, seen) ? "skipped" : "done" };
  });
}

function isSkipped(
  state: CompetitionState,
  current: CompetitionState,
  expired: boolean,
  seen: ReadonlySet<CompetitionState>,
): boolean {
  if (state === "attested" || state === "outcome_broadcasted") return expired;
  if (state === "expiry_broadcasted") return !expired;
  // With everybody paid over Lightning nothing has to be split on chain.
  return state === "delta_broadcasted" && current === "completed" && !seen.has(state);
}
