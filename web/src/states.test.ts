import { describe, expect, it } from "vitest";

import type { CompetitionState } from "../../clients/typescript/src/index.ts";
import { GROUPS, LIFE, STATE_TEXT, timeline } from "./states.ts";

function statuses(current: CompetitionState, ...seen: CompetitionState[]): Record<string, string> {
  return Object.fromEntries(timeline(current, new Set(seen)).map((step) => [step.state, step.status]));
}

describe("timeline", () => {
  it("has all 19 states in order, one of them current", () => {
    for (const state of LIFE) {
      const steps = timeline(state, new Set());
      expect(steps.map((step) => step.state)).toEqual(LIFE);
      expect(steps.filter((step) => step.status === "current").map((step) => step.state)).toEqual([state]);
    }
    expect(LIFE).toHaveLength(19);
  });

  it("marks what is done, current and ahead", () => {
    const by = statuses("awaiting_signing", "created", "collecting_entries");
    expect(by["created"]).toBe("done");
    expect(by["awaiting_keygen"]).toBe("done");
    expect(by["funding_ready"]).toBe("ahead");
    expect(by["expiry_broadcasted"]).toBe("ahead");
  });

  it("leaves out the expiry once the oracle attested", () => {
    expect(statuses("attested")["expiry_broadcasted"]).toBe("skipped");
    expect(statuses("completed", "outcome_broadcasted")["expiry_broadcasted"]).toBe("skipped");
  });

  it("goes by the expiry when the oracle stayed silent", () => {
    for (const by of [statuses("expiry_broadcasted"), statuses("completed", "expiry_broadcasted")]) {
      expect(by["attested"]).toBe("skipped");
      expect(by["outcome_broadcasted"]).toBe("skipped");
    }
    expect(statuses("completed", "expiry_broadcasted")["expiry_broadcasted"]).toBe("done");
  });

  it("says that nothing was split when everybody was paid", () => {
    expect(statuses("completed", "outcome_broadcasted")["delta_broadcasted"]).toBe("skipped");
    const split = statuses("completed", "outcome_broadcasted", "delta_broadcasted");
    expect(split["delta_broadcasted"]).toBe("done");
  });

  it("puts a failure after the last state that was reached", () => {
    const steps = timeline("failed", new Set<CompetitionState>(["created", "collecting_entries", "awaiting_escrow"]));
    expect(steps.slice(0, 5).map((step) => [step.state, step.status])).toEqual([
      ["created", "done"],
      ["collecting_entries", "done"],
      ["awaiting_escrow", "done"],
      ["failed", "current"],
      ["escrow_confirmed", "ahead"],
    ]);
    expect(steps).toHaveLength(20);
  });
});

describe("states", () => {
  it("have words", () => {
    for (const [state, text] of Object.entries(STATE_TEXT)) expect(text.label, state).not.toBe("");
  });

  it("are each in one group", () => {
    const groups = [GROUPS.open, GROUPS.running, GROUPS.ended].flatMap((group) => group.states ?? []);
    const all = Object.keys(STATE_TEXT).filter((state) => state !== "unspecified");
    expect([...groups].sort()).toEqual(all.sort());
  });
});
