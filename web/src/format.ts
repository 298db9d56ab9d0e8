const NUMBER = new Intl.NumberFormat("en-US");
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** The reader's time zone, e.g. Europe/Berlin. */
export const ZONE = DATE.resolvedOptions().timeZone;

/** An integer with thousands separators. */
export function count(value: number): string {
  return NUMBER.format(value);
}

/** An amount with its unit. */
export function sats(amount: number): string {
  return `${NUMBER.format(amount)} sats`;
}

/** A moment in the reader's zone, or a dash. */
export function dateTime(iso: string | null | undefined): string {
  return iso ? DATE.format(new Date(iso)) : "–";
}

/** The same to the second, with its zone. */
export function exactTime(iso: string): string {
  return EXACT.format(new Date(iso));
}

/** A time of day in the reader's zone. */
export function timeOfDay(at: string | number | null | undefined): string {
  return at === null || at === undefined || at === "" ? "–" : TIME.format(new Date(at));
}

/** How far away a moment is, in the largest unit that fits: "in 3 hours", "yesterday". */
export function fromNow(iso: string, now: number): string {
  const seconds = Math.round((Date.parse(iso) - now) / 1000);
  const size = Math.abs(seconds);
  if (size < 60) return seconds >= 0 ? "in under a minute" : "just now";
  if (size < 3600) return RELATIVE.format(Math.trunc(seconds / 60), "minute");
  if (size < 86_400) return RELATIVE.format(Math.trunc(seconds / 3600), "hour");
  return RELATIVE.format(Math.trunc(seconds / 86_400), "day");
}

/** The beginning and the end of a long id in hex. Of a UUIDv7 the end tells more: it begins with the time. */
export function shortId(text: string): string {
  return /^[0-9a-f-]{17,}$/.test(text) ? `${text.slice(0, 8)}…${text.slice(-4)}` : text;
}

/** "temp_high" as people write it. */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}

/** One item of an event's data in a few words; times are named `…_at` and come as unix seconds. */
export function brief(name: string, value: unknown): string {
  if (typeof value === "number" && name.endsWith("_at")) {
    return `${words(name)} ${dateTime(new Date(value * 1000).toISOString())}`;
  }
  return `${words(name)} ${plain(value)}`;
}

function plain(value: unknown): string {
  if (typeof value === "number") return NUMBER.format(value);
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(plain).join(", ");
  if (typeof value === "object" && value !== null) return JSON.stringify(value);
  return shortId(String(value));
}
