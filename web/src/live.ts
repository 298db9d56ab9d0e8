import { useEffect, useState } from "preact/hooks";

import {
  CoordinatorClient,
  type Competition,
  type CompetitionEvent,
  type ConnectionState,
} from "../../clients/typescript/src/index.ts";

export const client = new CoordinatorClient({ baseUrl: window.location.origin });

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
      try {
        while (stale.size > 0 && !ending.signal.aborted) {
          const ids = [...stale];
          stale.clear();
          put(await Promise.all(ids.map((id) => client.competition.getCompetition({ competition_id: id }))));
        }
      } catch {
        // The stream tells of the lost connection; the next event reads again.
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

    const run = async () => {
      const afterSequence = await first();
      const stream = client.watch({
        ...(competitionId === undefined ? {} : { competitionId }),
        afterSequence,
        signal: ending.signal,
        onConnection: (status) => setLive((old) => ({ ...old, connection: status.state })),
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
