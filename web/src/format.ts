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

/** The beginning and the end of a long id. */
export function shortId(text: string): string {
  return text.length <= 16 ? text : `${text.slice(0, 8)}…${text.slice(-4)}`;
}

/** A value of an event's data in a few words. */
export function brief(value: unknown): string {
  if (typeof value === "number") return NUMBER.format(value);
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(brief).join(", ");
  return shortId(String(value));
}
