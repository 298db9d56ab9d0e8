import { describe, expect, it } from "vitest";

import { brief, sats, shortId } from "./format.ts";

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
});
