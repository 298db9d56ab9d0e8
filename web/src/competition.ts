import type {
  Competition,
  CompetitionEvent,
  CoordinatorClient,
  GetLeaderboardResponse,
  Snapshot,
  WatchOptions,
} from "../../clients/typescript/src/index.ts";
import { applied, saysNotAll } from "./reduce.ts";
import { LiveStore } from "./store.ts";

// Readers of the same competition learn of an event at the same moment; they must not all ask then.
const REFRESH_AFTER_MS = 300;
const REFRESH_SPREAD_MS = 1_200;

/** One competition with the events of its whole life. */
export class CompetitionView extends LiveStore {
  readonly id: string;
  competition: Competition | null = null;
  /** In order of their sequences. The array is the same one and grows. */
  readonly events: CompetitionEvent[] = [];
  /** False if the log does not reach back to the beginning any more. */
  complete = true;
  board: GetLeaderboardResponse | null = null;
  boardLoading = false;
  boardFailed = false;
  protected stale = true;
  #refresh: ReturnType<typeof setTimeout> | null = null;
  #refreshFailed = false;

  constructor(client: CoordinatorClient, id: string) {
    super(client);
    this.id = id;
  }

  override stop(): void {
    super.stop();
    if (this.#refresh) clearTimeout(this.#refresh);
    this.#refresh = null;
  }

  /** Reads the scores so far. Observations are not events, so this is for the reader to ask for. */
  async loadBoard(): Promise<void> {
    if (this.boardLoading) return;
    this.boardLoading = true;
    this.boardFailed = false;
    this.changed();
    try {
      this.board = await this.client.competition.getLeaderboard({ competition_id: this.id });
    } catch {
      this.boardFailed = true;
    } finally {
      this.boardLoading = false;
      this.changed();
    }
  }

  protected async load(signal: AbortSignal): Promise<void> {
    const request = { competition_id: this.id };
    this.#put(await this.client.competition.getCompetition(request, { signal }));
    this.stale = false;
    if (this.competition && isScored(this.competition)) void this.loadBoard();
  }

  protected watched(): WatchOptions {
    return { competitionId: this.id, afterSequence: this.events.at(-1)?.sequence ?? 0 };
  }

  protected onSnapshot(snapshot: Snapshot): boolean {
    // What happened in between is not known, and the log may be another one: its sequences start anew.
    this.events.length = 0;
    this.complete = false;
    const own = snapshot.competitions.find((competition) => competition.id === this.id);
    if (own) this.competition = own;
    this.stale = !own;
    return this.stale;
  }

  protected onEvent(event: CompetitionEvent): void {
    this.events.push(event);
    const known = this.competition;
    if (!known || event.sequence <= known.sequence) return;
    this.competition = applied(known, event);
    if (saysNotAll(event)) this.#refreshSoon();
  }

  protected override onConnected(): void {
    if (this.#refreshFailed) this.#refreshSoon();
  }

  #refreshSoon(): void {
    this.#refresh ??= setTimeout(
      () => {
        this.#refresh = null;
        void this.#read();
      },
      REFRESH_AFTER_MS + Math.random() * REFRESH_SPREAD_MS,
    );
  }

  async #read(): Promise<void> {
    try {
      this.#put(await this.client.competition.getCompetition({ competition_id: this.id }));
      this.#refreshFailed = false;
      if (this.competition && isScored(this.competition) && !this.board?.final) void this.loadBoard();
    } catch {
      // Whatever it was, the stream says so too; it is read again when that is connected.
      this.#refreshFailed = true;
    }
    this.changed();
  }

  #put(competition: Competition): void {
    if (!this.competition || competition.sequence >= this.competition.sequence) this.competition = competition;
  }
}

/** Whether there can be scores: the window has begun and the contract stands. */
export function isScored(competition: Competition): boolean {
  const start = competition.terms?.start_observation_at;
  return (
    !!start && Date.parse(start) <= Date.now() && competition.entries > 0 && !SCORELESS.has(competition.state)
  );
}

const SCORELESS: ReadonlySet<string> = new Set(["created", "collecting_entries", "failed", "cancelled"]);
