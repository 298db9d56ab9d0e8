import { nsecEncode, npubEncode } from "nostr-tools/nip19";
import { verifyEvent } from "nostr-tools/pure";
import { expect, test } from "vitest";

import { keySigner } from "./signers.ts";

const SECRET = new Uint8Array(32).fill(0x77);

test("nsec and hex sign as the same key", async () => {
  const template = { kind: 27235, created_at: 1_800_000_000, tags: [["u", "https://x.example/ü"]], content: "" };
  const events = [];
  for (const text of [` ${nsecEncode(SECRET)} `, "77".repeat(32)]) {
    events.push(await keySigner(text).signEvent({ ...template }));
  }
  expect(events.every((event) => verifyEvent(event))).toBe(true);
  expect(events[0]?.pubkey).toBe(events[1]?.pubkey);
});

test("what is no secret key is refused without being repeated", () => {
  const nsec = nsecEncode(SECRET);
  for (const text of ["", "77", `${nsec.slice(0, -1)}q`, npubEncode("77".repeat(32))]) {
    const refuse = (): unknown => keySigner(text);
    expect(refuse).toThrow("This is no secret key");
    if (text.length > 20) expect(refuse).not.toThrow(text.slice(8, 20));
  }
});
