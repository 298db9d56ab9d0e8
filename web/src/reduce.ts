import type { Competition, CompetitionEvent, CompetitionTransactions } from "../../clients/typescript/src/index.ts";

const NO_TRANSACTIONS: CompetitionTransactions = {
  escrow_txid: "",
  funding_txid: "",
  outcome_txid: "",
  split_txid: "",
  closing_txids: [],
  release_txids: [],
};

/** The competition after an event. Events that it includes already change nothing. */
export function applied(competition: Competition, event: CompetitionEvent): Competition {
  if (event.sequence <= competition.sequence) return competition;
  const moved = event.state !== competition.state;
  const next: Competition = {
    ...competition,
    sequence: event.sequence,
    state: event.state,
    state_changed_at: moved ? event.occurred_at : competition.state_changed_at,
  };
  const data = event.data ?? {};
  switch (event.kind) {
    case "ticket.reserved":
      next.reserved_tickets += 1;
      break;
    case "ticket.paid":
      next.reserved_tickets = Math.max(0, next.reserved_tickets - 1);
      next.paid_tickets += 1;
      break;
    case "ticket.expired":
      next.reserved_tickets = Math.max(0, next.reserved_tickets - 1);
      break;
    case "ticket.payment_lost":
      next.paid_tickets = Math.max(0, next.paid_tickets - 1);
      break;
    case "entry.submitted":
      next.entries = number(data["entries"]) ?? next.entries + 1;
      break;
    case "competition.paused":
      next.paused = true;
      break;
    case "competition.resumed":
      next.paused = false;
      break;
    case "competition.failed":
    case "competition.cancelled":
      next.failure_reason = text(data["reason"]);
      break;
    case "oracle.event_created":
      next.oracle_pubkey = text(data["oracle_pubkey"]);
      break;
    case "oracle.attested":
      next.outcome = text(data["outcome"]);
      next.winners = numbers(data["winners"]);
      break;
    case "keymeld.keygen_progress":
    case "keymeld.signing_progress":
      next.progress_percent = percent(data["done"], data["total"]);
      break;
    case "transaction.broadcast":
      next.transactions = withTransaction(
        next.transactions ?? NO_TRANSACTIONS,
        text(data["role"]),
        text(data["txid"]),
      );
      break;
  }
  return next;
}

/**
 * Whether an event changes more than its data says, so that the competition has to be read again. Everything
 * else is applied as it comes: thousands of readers do not ask the server at every event.
 */
export function saysNotAll(event: CompetitionEvent): boolean {
  return /^(competition|oracle|contract)\.|^ticket\.cancelled$/.test(event.kind);
}

function withTransaction(known: CompetitionTransactions, role: string, txid: string): CompetitionTransactions {
  switch (role) {
    case "escrow":
      return { ...known, escrow_txid: txid };
    case "funding":
      return { ...known, funding_txid: txid };
    case "outcome":
    case "expiry":
      return { ...known, outcome_txid: txid };
    case "split":
      return { ...known, split_txid: txid };
    case "closing":
      return { ...known, closing_txids: added(known.closing_txids, txid) };
    case "release":
      return { ...known, release_txids: added(known.release_txids, txid) };
    default:
      return known;
  }
}

function added(list: string[], item: string): string[] {
  return list.includes(item) ? list : [...list, item];
}

function percent(done: unknown, total: unknown): number {
  const all = number(total) ?? 0;
  return all > 0 ? Math.floor((100 * (number(done) ?? 0)) / all) : 0;
}

export function number(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

export function numbers(value: unknown): number[] {
  return Array.isArray(value) ? value.filter((item): item is number => typeof item === "number") : [];
}

export function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : [];
}
