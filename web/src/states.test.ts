import { describe, expect, it } from "vitest";

import { STATE_TEXT, timeline } from "./states.ts";

describe("timeline", () => {
  it("marks what is done, current and ahead", () => {
    const steps = timeline("awaiting_signing", new Set(["created", "collecting_entries"]));
    const by = Object.fromEntries(steps.map((step) => [step.state, step.status]));
    expect(by["created"]).toBe("done");
    expect(by["awaiting_signing"]).toBe("current");
    expect(by["funding_ready"]).toBe("ahead");
    expect(steps.at(-1)?.state).toBe("completed");
    expect(steps.filter((step) => step.status === "current")).toHaveLength(1);
  });

  it("goes by the expiry when the oracle stayed silent", () => {
    const states = timeline("completed", new Set(["expiry_broadcasted"])).map((step) => step.state);
    expect(states).toContain("expiry_broadcasted");
    expect(states).not.toContain("attested");
  });

  it("says that nothing was split when everybody was paid", () => {
    const steps = timeline("completed", new Set(["outcome_broadcasted"]));
    expect(steps.find((step) => step.state === "delta_broadcasted")?.status).toBe("skipped");
    const split = timeline("completed", new Set(["outcome_broadcasted", "delta_broadcasted"]));
    expect(split.find((step) => step.state === "delta_broadcasted")?.status).toBe("done");
  });

  it("ends a failed one where it failed", () => {
    const steps = timeline("failed", new Set(["created", "collecting_entries", "awaiting_escrow"]));
    expect(steps.map((step) => step.state)).toEqual([
      "created",
      "collecting_entries",
      "awaiting_escrow",
      "failed",
    ]);
  });

  it("has words for every state", () => {
    for (const [state, text] of Object.entries(STATE_TEXT)) {
      expect(text.label, state).not.toBe("");
    }
  });
});
