import { useEffect, useState } from "preact/hooks";

import {
  CoordinatorClient,
  NetworkError,
  type Competition,
  type CompetitionEvent,
  type ConnectionState,
} from "../../clients/typescript/src/index.ts";

export const client = new CoordinatorClient({ baseUrl: window.location.origin });

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;

/** What a page shows, and how fresh it is. */
export interface Live {
  competitions: ReadonlyMap<string, Competition>;
  events: readonly CompetitionEvent[];
  connection: ConnectionState;
  /** False until the first answer. */
  loaded: boolean;
  /** Why nothing can be shown, or null. */
  problem: string | null;
}

const EMPTY: Live = { competitions: new Map(), events: [], connection: "connecting", loaded: false, problem: null };

/**
 * Competitions as they change: all, or one with its whole history of events.
 *
 * Events say what happened; the competition is read anew after them, once for all that came together. Nothing
 * is asked for on a timer.
 */
export function useLive(competitionId?: string): Live {
  const [live, setLive] = useState<Live>(EMPTY);
  useEffect(() => {
    setLive(EMPTY);
    const ending = new AbortController();
    const stale = new Set<string>();
    let reading = false;

    const put = (competitions: readonly Competition[]) =>
      setLive((old) => {
        const merged = new Map(old.competitions);
        for (const competition of competitions) merged.set(competition.id, competition);
        return { ...old, competitions: merged, loaded: true };
      });

    const readStale = async () => {
      if (reading) return;
      reading = true;
      let asked: string[] = [];
      try {
        while (stale.size > 0 && !ending.signal.aborted) {
          asked = [...stale];
          stale.clear();
          put(await Promise.all(asked.map((id) => client.competition.getCompetition({ competition_id: id }))));
        }
      } catch {
        // The connection is lost. The stream says so, and what was asked for is read again when it is back.
        for (const id of asked) stale.add(id);
      } finally {
        reading = false;
      }
    };

    const first = async () => {
      if (competitionId !== undefined) {
        put([await client.competition.getCompetition({ competition_id: competitionId })]);
        return 0;
      }
      const page = await client.competition.listCompetitions({ page_size: 50 });
      put(page.competitions);
      return page.sequence;
    };

    /** The first read, as often as it takes: a page that loads while the network is away is no exception. */
    const firstOfAll = async () => {
      for (let wait = FIRST_RETRY_MS; ; wait = Math.min(2 * wait, LONGEST_RETRY_MS)) {
        try {
          return await first();
        } catch (error) {
          if (!(error instanceof NetworkError) || ending.signal.aborted) throw error;
          setLive((old) => ({ ...old, connection: navigator.onLine ? "reconnecting" : "offline" }));
          await new Promise((resolve) => setTimeout(resolve, wait));
        }
      }
    };

    const run = async () => {
      const afterSequence = await firstOfAll();
      const stream = client.watch({
        ...(competitionId === undefined ? {} : { competitionId }),
        afterSequence,
        signal: ending.signal,
        onConnection: (status) => {
          setLive((old) => ({ ...old, connection: status.state }));
          if (status.state === "connected") void readStale();
        },
      });
      for await (const item of stream) {
        if (item.type === "snapshot") {
          put(item.snapshot.competitions);
          continue;
        }
        if (competitionId !== undefined) {
          setLive((old) => ({ ...old, events: [...old.events, item.event] }));
        }
        stale.add(item.event.competition_id);
        void readStale();
      }
    };

    run().catch((error: unknown) => {
      if (ending.signal.aborted) return;
      const words = error instanceof Error ? error.message : String(error);
      setLive((old) => ({ ...old, problem: words, connection: "closed" }));
    });
    return () => ending.abort();
  }, [competitionId]);
  return live;
}
