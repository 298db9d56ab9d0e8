import type { CompetitionTermsInput } from "../../../clients/typescript/src/index.ts";

export const SCORING_FIELDS = [
  "temp_high",
  "temp_low",
  "wind_speed",
  "wind_direction",
  "rain_amt",
  "snow_amt",
  "humidity",
] as const;

type Field =
  | "name"
  | "entry_fee_sats"
  | "coordinator_fee_percent"
  | "total_allowed_entries"
  | "min_entries"
  | "number_of_places_win"
  | "number_of_values_per_entry"
  | "total_competition_pool_sats"
  | "locations"
  | "start_observation_at"
  | "end_observation_at"
  | "signing_at";

/** The form as it is typed in: times are local, in the reader's zone. */
export type Form = Record<Field, string> & { scoring_fields: string[] };

interface FieldShape {
  name: Field;
  label: string;
  type: "text" | "number" | "datetime-local";
  min?: number;
  required: boolean;
}

const number = (name: Field, label: string, min: number): FieldShape => ({
  name,
  label,
  type: "number",
  min,
  required: true,
});
const moment = (name: Field, label: string): FieldShape => ({
  name,
  label,
  type: "datetime-local",
  required: true,
});

export const FIELDS: readonly FieldShape[] = [
  { name: "name", label: "Name", type: "text", required: true },
  { name: "locations", label: "Stations, e.g. KORD, KDEN", type: "text", required: true },
  number("entry_fee_sats", "Entry fee, sats", 1000),
  number("coordinator_fee_percent", "Of it for the coordinator, percent", 0),
  number("total_allowed_entries", "Most entries", 2),
  number("min_entries", "Fewest entries (0: all)", 0),
  number("number_of_places_win", "Places that win", 1),
  number("number_of_values_per_entry", "Predictions per entry", 1),
  number("total_competition_pool_sats", "Pool, sats (0: what the entries bring)", 0),
  moment("start_observation_at", "Window starts"),
  moment("end_observation_at", "Window ends"),
  moment("signing_at", "Oracle attests"),
];

const HOUR_MS = 3_600_000;

export function firstForm(): Form {
  return {
    name: "",
    locations: "",
    entry_fee_sats: "10000",
    coordinator_fee_percent: "5",
    total_allowed_entries: "5",
    min_entries: "0",
    number_of_places_win: "1",
    number_of_values_per_entry: "2",
    total_competition_pool_sats: "0",
    start_observation_at: local(Date.now() + 24 * HOUR_MS),
    end_observation_at: local(Date.now() + 48 * HOUR_MS),
    signing_at: local(Date.now() + 49 * HOUR_MS),
    scoring_fields: ["temp_high", "wind_speed"],
  };
}

/** The terms that a form stands for. Whether they can be is the server's to say. */
export function termsOf(form: Form): CompetitionTermsInput {
  return {
    name: form.name.trim(),
    entry_fee_sats: Number(form.entry_fee_sats),
    coordinator_fee_percent: Number(form.coordinator_fee_percent),
    total_competition_pool_sats: Number(form.total_competition_pool_sats),
    total_allowed_entries: Number(form.total_allowed_entries),
    min_entries: Number(form.min_entries),
    number_of_places_win: Number(form.number_of_places_win),
    number_of_values_per_entry: Number(form.number_of_values_per_entry),
    locations: form.locations.split(/[\s,]+/).filter(Boolean),
    scoring_fields: SCORING_FIELDS.filter((field) => form.scoring_fields.includes(field)),
    start_observation_at: new Date(form.start_observation_at).toISOString(),
    end_observation_at: new Date(form.end_observation_at).toISOString(),
    signing_at: new Date(form.signing_at).toISOString(),
  };
}

/** A moment as an `<input type="datetime-local">` has it: to the minute, in the reader's zone. */
export function local(at: number): string {
  const moment = new Date(at);
  const two = (part: number): string => String(part).padStart(2, "0");
  return (
    `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}` +
    `T${two(moment.getHours())}:${two(moment.getMinutes())}`
  );
}
