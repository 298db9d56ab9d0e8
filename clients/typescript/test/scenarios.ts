/**
 * What a client does with a real gateway, the same in Node and in browsers: nothing here is of one of them
 * alone. A stage (tests/support/typescript.py) is the gateway and a control server, by which a scenario makes
 * happen what it needs.
 */
import {
  ApiError,
  CoordinatorClient,
  bearerAuthorization,
  nostrAuthorization,
  type CompetitionTermsInput,
  type NostrEvent,
  type StreamItem,
  type WatchOptions,
} from "../src/index.ts";

export type Scenario = (stage: Stage) => Promise<void>;

/** Where the gateway is, and the way to make things happen behind it. */
export class Stage {
  readonly url: string;
  readonly #control: string;

  constructor(control: string, url: string) {
    this.#control = control;
    this.url = url;
  }

  static async at(control: string): Promise<Stage> {
    const stage = new Stage(control, "");
    const { url } = await stage.tell<{ url: string }>("where");
    return new Stage(control, url);
  }

  async tell<Answer>(what: string, data: object = {}): Promise<Answer> {
    const response = await fetch(`${this.#control}/control/${what}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(data),
    });
    if (!response.ok) throw new Error(`${what}: ${response.status} ${await response.text()}`);
    return (await response.json()) as Answer;
  }

  /** A new competition of a core in memory; its id. */
  async announce(name: string): Promise<string> {
    return (await this.tell<{ id: string }>("announce", { name })).id;
  }

  /** So many events of a competition, padded to different sizes; the sequence of the last. */
  async happen(id: string, count: number): Promise<number> {
    return (await this.tell<{ sequence: number }>("happen", { id, count })).sequence;
  }
}

/** Plays a scenario. Its streams end with it, however it ends. */
export async function play(scenario: Scenario, control: string): Promise<void> {
  try {
    await scenario(await Stage.at(control));
  } finally {
    for (const watched of Watched.open) watched.abort();
  }
}

/** In a core in memory, whose events come as fast as a test needs them. */
export const streams: Record<string, Scenario> = {
  "lists competitions page by page": async (stage) => {
    const made = [await stage.announce("one"), await stage.announce("two"), await stage.announce("three")];
    const client = new CoordinatorClient({ baseUrl: stage.url });
    const names: string[] = [];
    let page_token = "";
    do {
      const page = await client.competition.listCompetitions({ page_size: 2, page_token });
      check(page.competitions.length <= 2, "a page is no larger than asked for");
      for (const competition of page.competitions) {
        if (!made.includes(competition.id)) continue;
        names.push(competition.terms?.name ?? "");
        equal(competition.state, "created");
        equal(competition.terms?.entry_fee_sats, 10_000);
      }
      page_token = page.next_page_token;
    } while (page_token);
    equal(names, ["three", "two", "one"]);
  },

  "watches one competition: a snapshot, then what happens": async (stage) => {
    const id = await stage.announce("watched");
    const other = await stage.announce("other");
    const watched = new Watched(stage, { competitionId: id });
    await watched.until(() => watched.snapshots.length === 1);
    const [snapshot] = watched.snapshots;
    equal(snapshot?.competitions.map((competition) => competition.id), [id]);
    const first = (snapshot?.sequence ?? 0) + 1;
    await stage.happen(id, 2);
    await stage.happen(other, 1);
    const last = await stage.happen(id, 1);
    await watched.upTo(last);
    equal(watched.sequences, [first, first + 1, first + 3]);
    const [event] = watched.events;
    equal([event?.competition_id, event?.kind, event?.state], [id, "weather.seen", "created"]);
    check(Math.abs(Date.parse(event?.occurred_at ?? "") - Date.now()) < 60_000, "the event has its time");
    await watched.close();
  },

  "a connection cut anywhere loses and repeats nothing": async (stage) => {
    const id = await stage.announce("cut off");
    // In headers, between frames, in the middle of one.
    const cuts = [1, 40, 130, 300, 700, 701, 1_500, 2_500, 4_000];
    await stage.tell("limit", { bytes: cuts });
    const from = await stage.happen(id, 1);
    const watched = new Watched(stage, { competitionId: id, afterSequence: 0 });
    let last = from;
    while ((await stage.tell<{ left: number }>("limits")).left > 0) {
      last = await stage.happen(id, 5);
      await pause(50);
    }
    last = await stage.happen(id, 1);
    await watched.upTo(last);
    equal(watched.sequences, [from - 1, ...range(from, last)]);
    equal(watched.snapshots.length, 0);
    check(watched.attempts.length > cuts.length, "every connection was cut");
    await watched.close();
  },

  "a restarted gateway is found again, by Last-Event-ID": async (stage) => {
    const id = await stage.announce("restarted");
    const watched = new Watched(stage, { competitionId: id });
    await watched.until(() => watched.snapshots.length === 1);
    const before = await stage.happen(id, 3);
    await watched.upTo(before);
    await stage.tell("stop");
    await watched.until(() => watched.connection === "reconnecting");
    await stage.happen(id, 4);
    await stage.tell("start");
    const last = await stage.happen(id, 2);
    await watched.upTo(last);
    equal(watched.sequences, range(before - 2, last));
    equal(watched.snapshots.length, 1);
    equal(watched.attempts[0], null);
    equal(watched.attempts.at(-1), `${before}`);
    await watched.close();
  },

  "another log (the core went back to a backup) is said by a snapshot": async (stage) => {
    const id = await stage.announce("restored");
    const watched = new Watched(stage, { competitionId: id, afterSequence: await stage.happen(id, 1) });
    const last = await stage.happen(id, 5);
    await watched.upTo(last);
    await stage.tell("stop");
    await stage.tell("forget", { count: 3 });
    await stage.tell("start");
    await watched.until(() => watched.snapshots.length === 1);
    equal(watched.snapshots[0]?.sequence, last - 3);
    equal(await stage.happen(id, 1), last - 2);
    await watched.until(() => watched.events.length === 6);
    equal(watched.sequences, [...range(last - 4, last), last - 2]);
    await watched.close();
  },

  "kinds are chosen, and a closed stream is closed at the server too": async (stage) => {
    const id = await stage.announce("closed");
    const none = new Watched(stage, { competitionId: id, kinds: ["ticket.*"] });
    const all = new Watched(stage, { competitionId: id });
    await none.until(() => none.snapshots.length === 1);
    await all.until(() => all.snapshots.length === 1);
    await all.upTo(await stage.happen(id, 3));
    equal(none.sequences, []);
    await none.close();
    await all.close();
    await eventually(async () => (await stage.tell<{ count: number }>("streams")).count === 0);
  },

  "an overload is an ApiError that says when to come back": async (stage) => {
    await stage.tell("overload", { on: true });
    try {
      const client = new CoordinatorClient({ baseUrl: stage.url });
      const error = await refusal(client.competition.getCoordinator());
      equal([error.status, error.temporary, error.retryAfterSeconds], [429, true, 7]);
    } finally {
      await stage.tell("overload", { on: false });
    }
  },
};

/** In a real core, with its accounts, refusals and log. */
export const core: Record<string, Scenario> = {
  "what is not there is an ApiError with its problem": async (stage) => {
    const client = new CoordinatorClient({ baseUrl: stage.url });
    const competition_id = "01980000-0000-7000-8000-000000000000";
    const error = await refusal(client.competition.getCompetition({ competition_id }));
    equal([error.status, error.temporary, error.problem?.status], [404, false, 404]);
    equal(error.problem?.instance, `/api/v1/competitions/${competition_id}`);
    check(error.message !== "" && error.message === error.problem?.detail, "the detail is the message");
    const stream = client.watch({ competitionId: competition_id });
    equal((await refusal(stream[Symbol.asyncIterator]().next())).status, 404);
    equal(stream.status.state, "closed");
  },

  "wrong fields are named": async (stage) => {
    const client = adminOf(stage);
    const wrong = { ...terms("wrong"), entry_fee_sats: 1, locations: [] };
    const error = await refusal(client.competition.createCompetition({ terms: wrong }));
    equal(error.status, 400);
    const fields = (error.problem?.errors ?? []).map(({ field }) => field);
    check(fields.includes("terms.entry_fee_sats") && fields.includes("terms.locations"), `${fields}`);
  },

  "without a key, or with a player's, an admin's call is refused": async (stage) => {
    const request = { terms: terms("refused") };
    const stranger = new CoordinatorClient({ baseUrl: stage.url });
    equal((await refusal(stranger.competition.createCompetition(request))).status, 401);
    const player = new CoordinatorClient({ baseUrl: stage.url, authorize: signedBy(stage, "player") });
    equal((await refusal(player.competition.createCompetition(request))).status, 403);
  },

  "an admin creates once, cancels with a reason, and the stream tells": async (stage) => {
    const client = adminOf(stage);
    const { sequence } = await client.competition.listCompetitions({ page_size: 1 });
    const watched = new Watched(stage, { afterSequence: sequence });
    const request = { terms: terms("Zürich – „Wetter“ ☂") };
    const idempotencyKey = `scenario-${sequence}`;
    const made = await client.competition.createCompetition(request, { idempotencyKey });
    const again = await client.competition.createCompetition(request, { idempotencyKey });
    equal([again.id, again.terms?.name], [made.id, "Zürich – „Wetter“ ☂"]);
    const cancelled = await client.competition.cancelCompetition({
      competition_id: made.id,
      reason: "no stations",
    });
    equal(cancelled.state, "cancelled");
    check(cancelled.failure_reason.startsWith("no stations"), cancelled.failure_reason);
    await watched.upTo(cancelled.sequence);
    const own = watched.events.filter((event) => event.competition_id === made.id);
    equal(own[0]?.kind, "competition.created");
    const told = own.find((event) => event.kind === "competition.cancelled");
    equal([told?.state, told?.data?.["reason"]], ["cancelled", "no stations"]);
    await watched.close();
  },

  "a session goes on without the signer until it is closed": async (stage) => {
    const { user, session_token } = await adminOf(stage).user.login();
    equal(user?.is_admin, true);
    const client = new CoordinatorClient({
      baseUrl: stage.url,
      authorize: bearerAuthorization(session_token),
    });
    const { competitions } = await client.competition.listCompetitions();
    check(Array.isArray(competitions), "reads are allowed");
    await client.user.logout();
    equal((await refusal(client.competition.listCompetitions())).status, 401);
  },
};

/** A stream and everything that it brings. */
class Watched {
  static readonly open = new Set<Watched>();
  readonly snapshots: Extract<StreamItem, { type: "snapshot" }>["snapshot"][] = [];
  readonly events: Extract<StreamItem, { type: "event" }>["event"][] = [];
  /** The Last-Event-ID of every attempt to connect. */
  readonly attempts: (string | null)[] = [];
  connection = "";
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  #failure: unknown = null;

  constructor(stage: Stage, options: WatchOptions) {
    Watched.open.add(this);
    const client = new CoordinatorClient({
      baseUrl: stage.url,
      fetch: (input, init) => {
        this.attempts.push(new Headers(init?.headers).get("last-event-id"));
        return fetch(input, init);
      },
    });
    const stream = client.watch({
      ...options,
      signal: this.#abort.signal,
      onConnection: ({ state }) => (this.connection = state),
      timing: { retryMost: 500 },
    });
    this.#done = (async () => {
      for await (const item of stream) {
        if (item.type === "event") this.events.push(item.event);
        else this.snapshots.push(item.snapshot);
      }
    })().catch((error: unknown) => {
      this.#failure = error;
    });
  }

  get sequences(): number[] {
    return this.events.map((event) => event.sequence);
  }

  async upTo(sequence: number): Promise<void> {
    await this.until(() => (this.sequences.at(-1) ?? 0) >= sequence);
  }

  async until(condition: () => boolean): Promise<void> {
    await eventually(() => {
      if (this.#failure) throw this.#failure;
      return condition();
    });
  }

  abort(): void {
    this.#abort.abort();
    Watched.open.delete(this);
  }

  async close(): Promise<void> {
    this.abort();
    await this.#done;
    if (this.#failure) throw this.#failure;
  }
}

function adminOf(stage: Stage): CoordinatorClient {
  return new CoordinatorClient({ baseUrl: stage.url, authorize: signedBy(stage, "admin") });
}

/** Signs as an extension would, with a key that only the stage has. */
function signedBy(stage: Stage, who: "admin" | "player") {
  return nostrAuthorization({
    signEvent: (event) => stage.tell<NostrEvent>("sign", { who, event }),
  });
}

function terms(name: string): CompetitionTermsInput {
  const at = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString();
  return {
    name,
    entry_fee_sats: 10_000,
    total_allowed_entries: 5,
    number_of_places_win: 1,
    number_of_values_per_entry: 2,
    locations: ["KORD"],
    scoring_fields: ["temp_high", "wind_speed"],
    start_observation_at: at(24),
    end_observation_at: at(48),
    signing_at: at(50),
  };
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 60_000; !(await condition()); ) {
    check(Date.now() < deadline, `it did not come to this in time: ${condition}`);
    await pause(10);
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function refusal(promise: Promise<unknown>): Promise<ApiError> {
  const error: unknown = await promise.then(
    () => new Error("it was not refused"),
    (reason: unknown) => reason,
  );
  if (error instanceof ApiError) return error;
  throw error;
}

function check(condition: boolean, otherwise: string): void {
  if (!condition) throw new Error(otherwise);
}

function equal(actual: unknown, expected: unknown): void {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  check(left === right, `${left} is not ${right}`);
}
