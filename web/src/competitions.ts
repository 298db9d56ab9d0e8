import type {
  Competition,
  CompetitionEvent,
  CompetitionState,
  CoordinatorClient,
  Snapshot,
  WatchOptions,
} from "../../clients/typescript/src/index.ts";
import { applied } from "./reduce.ts";
import { GROUPS, type Group } from "./states.ts";
import { LiveStore, passes } from "./store.ts";

const PAGE_SIZE = 50;

/** Competitions of a group, newest first, as far as they were asked for; new ones come by themselves. */
export class CompetitionList extends LiveStore {
  readonly group: Group;
  loadingMore = false;
  moreFailed = false;
  protected stale = true;
  #competitions = new Map<string, Competition>();
  #nextPage = "";
  #sequence = 0;
  #loaded = false;
  /** Competitions that could not be read when they came up; tried again with the next sign of life. */
  readonly #missing = new Set<string>();
  /** Events that came while an answer was under way, which may be older than they are. */
  #meanwhile: CompetitionEvent[] = [];
  #underWay = 0;

  constructor(client: CoordinatorClient, group: Group) {
    super(client);
    this.group = group;
  }

  /** False until the first answer. */
  get loaded(): boolean {
    return this.#loaded;
  }

  get hasMore(): boolean {
    return this.#nextPage !== "";
  }

  /** Newest first: ids are UUIDv7, in order of time. */
  get competitions(): Competition[] {
    const states = GROUPS[this.group].states;
    return [...this.#competitions.values()]
      .filter((competition) => states === null || states.includes(competition.state))
      .sort((a, b) => (a.id < b.id ? 1 : -1));
  }

  /** Loads the next page. */
  async more(): Promise<void> {
    if (this.loadingMore || !this.hasMore) return;
    this.loadingMore = true;
    this.moreFailed = false;
    this.changed();
    try {
      await this.#reading(async () => {
        const page = await this.#page(this.#nextPage);
        this.#nextPage = page.next_page_token;
        page.competitions.forEach((competition) => this.#put(competition));
      });
    } catch {
      this.moreFailed = true;
    } finally {
      this.loadingMore = false;
      this.changed();
    }
  }

  protected async load(signal: AbortSignal): Promise<void> {
    const page = await this.#page("", signal);
    this.#competitions = new Map(page.competitions.map((competition) => [competition.id, competition]));
    this.#nextPage = page.next_page_token;
    this.#sequence = page.sequence;
    this.#loaded = true;
    this.stale = false;
  }

  protected watched(): WatchOptions {
    return { afterSequence: this.#sequence };
  }

  protected onSnapshot(_: Snapshot): boolean {
    this.stale = true;
    return true;
  }

  protected onEvent(event: CompetitionEvent): void {
    this.#sequence = event.sequence;
    if (this.#underWay > 0) this.#meanwhile.push(event);
    const known = this.#competitions.get(event.competition_id);
    if (known) this.#competitions.set(known.id, applied(known, event));
    else if (this.#comesIn(event)) this.#missing.add(event.competition_id);
    this.#fetchMissing();
  }

  protected override onConnected(): void {
    this.#fetchMissing();
  }

  /** Whether a competition that is not shown belongs here from this event on. */
  #comesIn(event: CompetitionEvent): boolean {
    if (event.kind === "competition.created") return true;
    const states: readonly CompetitionState[] | null = GROUPS[this.group].states;
    return event.kind === "competition.state_changed" && states !== null && states.includes(event.state);
  }

  #fetchMissing(): void {
    for (const id of this.#missing) {
      this.#missing.delete(id);
      void this.#fetch(id);
    }
  }

  async #fetch(id: string): Promise<void> {
    try {
      await this.#reading(async () =>
        this.#put(await this.client.competition.getCompetition({ competition_id: id })),
      );
      this.changed();
    } catch (error) {
      if (passes(error)) this.#missing.add(id);
    }
  }

  async #reading(task: () => Promise<void>): Promise<void> {
    this.#underWay += 1;
    try {
      await task();
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#meanwhile = [];
    }
  }

  #put(competition: Competition): void {
    const known = this.#competitions.get(competition.id);
    const newest = known && known.sequence > competition.sequence ? known : competition;
    const since = this.#meanwhile.filter((event) => event.competition_id === competition.id);
    this.#competitions.set(competition.id, since.reduce(applied, newest));
  }

  #page(token: string, signal?: AbortSignal) {
    const states = GROUPS[this.group].states;
    return this.client.competition.listCompetitions(
      { page_size: PAGE_SIZE, page_token: token, ...(states ? { states: [...states] } : {}) },
      signal ? { signal } : {},
    );
  }
}
