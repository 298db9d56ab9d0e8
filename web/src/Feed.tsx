import { memo } from "./memo.ts";
import { useState } from "preact/hooks";

import type { CompetitionEvent } from "../../clients/typescript/src/index.ts";
import type { CompetitionView } from "./competition.ts";
import { describe } from "./describe.ts";
import { count, exactTime, timeOfDay } from "./format.ts";
import { text } from "./reduce.ts";
import { TransactionId } from "./Transactions.tsx";

const FIRST_SHOWN = 100;

/** The event log as it comes in, newest first. */
export function Feed({ view }: { view: CompetitionView }) {
  const [all, setAll] = useState(false);
  const events = view.events;
  const shown = all ? events : events.slice(-FIRST_SHOWN);
  const hidden = events.length - shown.length;
  return (
    <section aria-labelledby="events">
      <h2 id="events">
        Events <span class="quiet">({count(events.length)})</span>
      </h2>
      {events.length === 0 && <p class="quiet">None yet.</p>}
      <ol class="feed" reversed>
        {[...shown].reverse().map((event) => (
          <Item key={event.sequence} event={event} />
        ))}
      </ol>
      {hidden > 0 && (
        <button type="button" onClick={() => setAll(true)}>
          Show {count(hidden)} older events
        </button>
      )}
      {!view.complete && <p class="quiet">Earlier events are no longer in the server's log.</p>}
    </section>
  );
}

const Item = memo(({ event }: { event: CompetitionEvent }) => {
  const txid = event.kind.startsWith("transaction.") ? text(event.data?.["txid"]) : "";
  return (
    <li value={event.sequence} data-sequence={event.sequence}>
      <time
        class="when"
        dateTime={event.occurred_at ?? ""}
        title={event.occurred_at ? exactTime(event.occurred_at) : ""}
      >
        {timeOfDay(event.occurred_at)}
      </time>
      <span>
        {describe(event)}
        {txid && (
          <>
            {": "}
            <TransactionId txid={txid} />
          </>
        )}
        <span class="kind">
          {event.kind} #{event.sequence}
        </span>
      </span>
    </li>
  );
});
