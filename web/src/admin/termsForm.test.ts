import { expect, test } from "vitest";

import { firstForm, local, termsOf } from "./termsForm.ts";

test("a form becomes terms: numbers, lists, and times of the reader's zone", () => {
  const start = "2027-03-28T12:05";
  const terms = termsOf({
    ...firstForm(),
    name: " Windy weekend ",
    locations: "KORD, KDEN  KSEA",
    scoring_fields: ["wind_speed", "temp_high"],
    start_observation_at: start,
  });
  expect(terms.name).toBe("Windy weekend");
  expect(terms.locations).toEqual(["KORD", "KDEN", "KSEA"]);
  expect(terms.scoring_fields).toEqual(["temp_high", "wind_speed"]);
  expect(terms.entry_fee_sats).toBe(10_000);
  expect(local(Date.parse(terms.start_observation_at))).toBe(start);
});
