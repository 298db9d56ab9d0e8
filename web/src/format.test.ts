import { describe, expect, it } from "vitest";

import type { CompetitionEvent } from "../../clients/typescript/src/index.ts";
import { describe as described } from "./describe.ts";
import { brief, fromNow, sats, shortId } from "./format.ts";

describe("format", () => {
  it("groups sats", () => expect(sats(1234567)).toBe("1,234,567 sats"));

  it("shortens ids and nothing else", () => {
    expect(shortId("ab".repeat(32))).toBe("abababab…abab");
    expect(shortId("awaiting_attestation")).toBe("awaiting_attestation");
  });

  it("shows times as times", () => {
    expect(brief("deadline_at", 1_795_562_894)).not.toContain("1,795");
    expect(brief("winners", [1, 0])).toBe("winners 1, 0");
    expect(brief("missing", [])).toBe("missing none");
  });

  it("tells how far a moment is away", () => {
    const now = Date.parse("2026-01-01T00:00:00Z");
    expect(fromNow("2026-01-01T02:59:59Z", now)).toBe("in 2 hours");
    expect(fromNow("2025-12-31T23:50:00Z", now)).toBe("10 minutes ago");
    expect(fromNow("2026-01-03T00:00:00Z", now)).toMatch(/2 days|tomorrow/);
  });
});

describe("an event in words", () => {
  const event = (kind: string, data = {}): CompetitionEvent => ({
    sequence: 1,
    competition_id: "c1",
    kind,
    occurred_at: null,
    state: "created",
    data,
  });

  it("says what the data says", () => {
    expect(described(event("ticket.paid", { ticket_id: "t1", amount_sats: 10_000 }))).toBe(
      "The payment of 10,000 sats for ticket t1 is held",
    );
    expect(described(event("oracle.attested", { outcome: "att3", winners: [2, 0] }))).toBe(
      "The oracle attested: player 2, then player 0 won",
    );
    expect(described(event("keymeld.keygen_progress", { done: 1, total: 3, missing: ["t2"] }))).toBe(
      "Key generation: 1 of 3 done, waiting for t2",
    );
  });

  it("shows the data of a kind that is not known, and the kind if there is none", () => {
    expect(described(event("weather.seen", { wind_speed: 12 }))).toBe("wind speed 12");
    expect(described(event("weather.gone"))).toBe("weather.gone");
  });
});
