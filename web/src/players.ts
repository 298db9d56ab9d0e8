import type {
  CompetitionEvent,
  CompetitionState,
  LeaderboardRow,
} from "../../clients/typescript/src/index.ts";
import { number, text } from "./reduce.ts";

export type TicketWord = "reserved" | "paid" | "entered" | "settled" | "expired" | "cancelled" | "payment lost";
export type PayoutWord = "" | "requested" | "in flight" | "paid" | "failed";

/** A ticket and what became of it, as far as the events tell. */
export interface Player {
  ticketId: string;
  ticket: TicketWord;
  /** Empty until there is one. */
  entryId: string;
  releaseSigned: boolean;
  fundingSigned: boolean;
  payout: PayoutWord;
  payoutSats: number | null;
  /** Index in the contract, null while entries are collected. */
  index: number | null;
  rank: number | null;
  points: number | null;
}

const TICKET: Record<string, TicketWord> = {
  "ticket.reserved": "reserved",
  "ticket.paid": "paid",
  "ticket.expired": "expired",
  "ticket.cancelled": "cancelled",
  "ticket.settled": "settled",
  "ticket.payment_lost": "payment lost",
};

const PAYOUT: Record<string, PayoutWord> = {
  "payout.requested": "requested",
  "payout.in_flight": "in flight",
  "payout.paid": "paid",
  "payout.failed": "failed",
};

/**
 * Everybody who has or had a ticket, from the event log and the scores, if known: players in order of their
 * index (of their ticket ids, which is the same), then tickets without an entry.
 */
export function players(
  events: readonly CompetitionEvent[],
  state: CompetitionState,
  board: readonly LeaderboardRow[],
): Player[] {
  const byTicket = new Map<string, Player>();
  const byEntry = new Map<string, Player>();
  for (const event of events) {
    const data = event.data ?? {};
    const ticketId = text(data["ticket_id"]);
    if (ticketId && TICKET[event.kind]) {
      ticketOf(byTicket, ticketId).ticket = TICKET[event.kind] as TicketWord;
    }
    const entryId = text(data["entry_id"]);
    if (event.kind === "entry.submitted" && ticketId && entryId) {
      const player = ticketOf(byTicket, ticketId);
      player.entryId = entryId;
      player.ticket = "entered";
      byEntry.set(entryId, player);
    }
    const player = byEntry.get(entryId);
    if (!player) continue;
    if (event.kind === "entry.escrow_release_signed") player.releaseSigned = true;
    if (event.kind === "entry.funding_signed") player.fundingSigned = true;
    const payout = PAYOUT[event.kind];
    if (payout) {
      player.payout = payout;
      player.payoutSats = number(data["amount_sats"]) ?? player.payoutSats;
    }
  }
  for (const row of board) {
    const player = ticketOf(byTicket, row.ticket_id);
    player.entryId = row.entry_id;
    if (player.ticket === "reserved") player.ticket = "entered";
    player.rank = row.rank;
    player.points = row.points;
  }
  const all = [...byTicket.values()].sort((a, b) => (a.ticketId < b.ticketId ? -1 : 1));
  const entered = all.filter((player) => player.entryId);
  if (state !== "created" && state !== "collecting_entries") {
    entered.forEach((player, index) => (player.index = index));
  }
  return [...entered, ...all.filter((player) => !player.entryId)];
}

function ticketOf(byTicket: Map<string, Player>, ticketId: string): Player {
  const known = byTicket.get(ticketId);
  if (known) return known;
  const made: Player = {
    ticketId,
    ticket: "reserved",
    entryId: "",
    releaseSigned: false,
    fundingSigned: false,
    payout: "",
    payoutSats: null,
    index: null,
    rank: null,
    points: null,
  };
  byTicket.set(ticketId, made);
  return made;
}
