import type { Competition } from "../../clients/typescript/src/index.ts";

const PRIZE_PERCENT: Record<number, readonly number[]> = {
  1: [100],
  2: [60, 40],
  3: [45, 35, 20],
  4: [42, 30, 18, 10],
  5: [40, 27, 16, 9, 8],
};

/** A competition's pool in sats; `most`: what it will be with every place taken. */
export function pool(competition: Competition): { sats: number; most: boolean } {
  const terms = competition.terms;
  if (!terms) return { sats: 0, most: false };
  if (terms.total_competition_pool_sats > 0) return { sats: terms.total_competition_pool_sats, most: false };
  const share = terms.entry_fee_sats - Math.floor((terms.entry_fee_sats * terms.coordinator_fee_percent) / 100);
  const open = competition.state === "created" || competition.state === "collecting_entries";
  return open
    ? { sats: share * terms.total_allowed_entries, most: competition.entries < terms.total_allowed_entries }
    : { sats: share * competition.entries, most: false };
}

/** What each place gets of the pool, in percent, best first. */
export function prizePercents(places: number): readonly number[] {
  return PRIZE_PERCENT[places] ?? [];
}
