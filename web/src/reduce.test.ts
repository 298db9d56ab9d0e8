import { describe, expect, it } from "vitest";

import type { Competition, CompetitionEvent, CompetitionState } from "../../clients/typescript/src/index.ts";
import { players } from "./players.ts";
import { applied, saysNotAll } from "./reduce.ts";

const BEFORE: Competition = {
  id: "c1",
  terms: null,
  state: "created",
  created_at: "2026-01-01T00:00:00Z",
  state_changed_at: "2026-01-01T00:00:00Z",
  sequence: 10,
  reserved_tickets: 1,
  paid_tickets: 0,
  entries: 0,
  paused: false,
  keygen_session_ids: [],
  market_maker_pubkey: "",
  oracle_pubkey: "",
  transactions: null,
  outcome: "",
  winners: [],
  failure_reason: "",
  progress_percent: 0,
};

let sequence = 10;
function event(kind: string, data = {}, state: CompetitionState = "created"): CompetitionEvent {
  sequence += 1;
  return { sequence, competition_id: "c1", kind, occurred_at: "2026-01-02T00:00:00Z", state, data };
}

describe("applied", () => {
  it("counts tickets and entries", () => {
    const after = [
      event("ticket.paid", { ticket_id: "t1" }),
      event("ticket.reserved", { ticket_id: "t2" }),
      event("entry.submitted", { ticket_id: "t1", entry_id: "e1", entries: 1 }, "collecting_entries"),
      event("ticket.expired", { ticket_id: "t2" }, "collecting_entries"),
    ].reduce(applied, BEFORE);
    expect([after.reserved_tickets, after.paid_tickets, after.entries]).toEqual([0, 1, 1]);
    expect(after.state).toBe("collecting_entries");
    expect(after.state_changed_at).toBe("2026-01-02T00:00:00Z");
    expect(after.sequence).toBe(sequence);
  });

  it("changes nothing by an event that is included already", () => {
    const old = { ...event("ticket.paid"), sequence: 10 };
    expect(applied(BEFORE, old)).toBe(BEFORE);
  });

  it("leaves the competition before as it was", () => {
    const closing = { role: "closing", txid: "aa" };
    const first = applied(BEFORE, event("transaction.broadcast", { role: "escrow", txid: "ee" }));
    const second = applied(first, event("transaction.broadcast", closing));
    const third = applied(second, event("transaction.broadcast", closing));
    expect(BEFORE.transactions).toBeNull();
    expect(first.transactions?.closing_txids).toEqual([]);
    expect(third.transactions?.closing_txids).toEqual(["aa"]);
    expect(third.transactions?.escrow_txid).toBe("ee");
  });

  it("takes the expiry transaction for the outcome's place", () => {
    const after = applied(BEFORE, event("transaction.broadcast", { role: "expiry", txid: "ff" }));
    expect(after.transactions?.outcome_txid).toBe("ff");
  });

  it("knows progress, outcome, winners and reasons", () => {
    const after = [
      event("keymeld.signing_progress", { done: 1, total: 3 }, "awaiting_signing"),
      event("oracle.attested", { outcome: "att2", winners: [2, 0] }, "attested"),
      event("competition.failed", { reason: "rain" }, "failed"),
    ].reduce(applied, BEFORE);
    expect(after.progress_percent).toBe(33);
    expect([after.outcome, after.winners]).toEqual(["att2", [2, 0]]);
    expect(after.failure_reason).toBe("rain");
  });

  it("bears data of another shape", () => {
    const wrong = ["oracle.attested", "keymeld.keygen_progress", "transaction.broadcast", "entry.submitted"];
    const after = wrong.map((kind) => event(kind, { winners: "x", done: [], total: null, txid: 7 })).reduce(applied, BEFORE);
    expect(after.winners).toEqual([]);
    expect(after.entries).toBe(1);
  });
});

describe("saysNotAll", () => {
  it("has the competition read again where the event's data is not enough, and only there", () => {
    const again = ["competition.state_changed", "competition.failed", "oracle.attested", "contract.created"];
    expect(again.filter((kind) => !saysNotAll(event(kind)))).toEqual([]);
    const enough = ["ticket.paid", "entry.submitted", "keymeld.signing_progress", "transaction.broadcast"];
    expect(enough.filter((kind) => saysNotAll(event(kind)))).toEqual([]);
  });
});

describe("players", () => {
  const log = [
    event("ticket.reserved", { ticket_id: "t2" }),
    event("ticket.reserved", { ticket_id: "t1" }),
    event("ticket.reserved", { ticket_id: "t3" }),
    event("ticket.paid", { ticket_id: "t2", amount_sats: 5 }),
    event("entry.submitted", { ticket_id: "t2", entry_id: "e2" }),
    event("ticket.paid", { ticket_id: "t1" }),
    event("entry.submitted", { ticket_id: "t1", entry_id: "e1" }),
    event("ticket.expired", { ticket_id: "t3" }),
    event("entry.escrow_release_signed", { entry_id: "e1" }),
    event("ticket.settled", { ticket_id: "t1" }),
    event("payout.requested", { entry_id: "e2", amount_sats: 1234 }),
    event("payout.paid", { entry_id: "e2", amount_sats: 1234 }),
  ];

  it("are in order of their ticket ids, which is their index once it is closed", () => {
    const rows = players(log, "completed", []);
    expect(rows.map((row) => [row.index, row.ticketId, row.entryId, row.ticket])).toEqual([
      [0, "t1", "e1", "settled"],
      [1, "t2", "e2", "entered"],
      [null, "t3", "", "expired"],
    ]);
    expect(rows.map((row) => row.releaseSigned)).toEqual([true, false, false]);
    expect([rows[1]?.payout, rows[1]?.payoutSats]).toEqual(["paid", 1234]);
    expect(players(log, "collecting_entries", []).map((row) => row.index)).toEqual([null, null, null]);
  });

  it("get their scores from the board", () => {
    const row = { rank: 1, entry_id: "e2", ticket_id: "t2", player_index: 1, owner_pubkey: "", points: 40, score: 4 };
    const rows = players(log, "attested", [row]);
    expect(rows.map((player) => player.points)).toEqual([null, 40, null]);
  });
});
