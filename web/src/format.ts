const NUMBER = new Intl.NumberFormat("en-US");
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** An amount with its unit. */
export function sats(amount: number): string {
  return `${NUMBER.format(amount)} sats`;
}

/** A moment in the reader's zone, or a dash. */
export function dateTime(iso: string | null | undefined): string {
  return iso ? DATE.format(new Date(iso)) : "–";
}

/** A time of day in the reader's zone. */
export function timeOfDay(iso: string | null | undefined): string {
  return iso ? TIME.format(new Date(iso)) : "–";
}

/** The beginning and the end of a long id in hex. */
export function shortId(text: string): string {
  return /^[0-9a-f-]{17,}$/.test(text) ? `${text.slice(0, 8)}…${text.slice(-4)}` : text;
}

/** One item of an event's data in a few words; times are named `…_at` and come as unix seconds. */
export function brief(name: string, value: unknown): string {
  const words = name.replaceAll("_", " ");
  if (typeof value === "number" && name.endsWith("_at")) {
    return `${words} ${dateTime(new Date(value * 1000).toISOString())}`;
  }
  return `${words} ${plain(value)}`;
}

function plain(value: unknown): string {
  if (typeof value === "number") return NUMBER.format(value);
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(plain).join(", ");
  return shortId(String(value));
}
