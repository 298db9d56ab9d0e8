import { useRef, useState } from "preact/hooks";

import type { Competition, InspectCompetitionResponse } from "../../../clients/typescript/src/index.ts";
import { count } from "../format.ts";
import { Badge, Time } from "../parts.tsx";
import { LIFE, TERMINAL, stateText } from "../states.ts";
import type { AdminSession } from "./session.ts";
import { useTask } from "./useTask.ts";

interface RowProps {
  competition: Competition;
  session: AdminSession;
}

/** A competition and what can be done with it. Its state comes by the stream, not from the answers. */
export function CompetitionRow({ competition, session }: RowProps) {
  const { id, state, paused, terms } = competition;
  const task = useTask();
  const [inspected, setInspected] = useState<InspectCompetitionResponse | null>(null);
  const dialog = useRef<HTMLDialogElement>(null);
  const inspect = (): void => void task.run(async () => setInspected(await session.inspect(id)));
  return (
    <li>
      <div class="card-head">
        <a href={`/competitions/${id}`}>{terms?.name || "Without a name"}</a>
        <Badge state={state} />
      </div>
      <p class="quiet">
        {count(competition.entries)} / {count(terms?.total_allowed_entries ?? 0)} entries, starts{" "}
        <Time at={terms?.start_observation_at} />
        {paused && !TERMINAL.has(state) && ", sale paused"}
      </p>
      <p class="actions">
        <button type="button" disabled={task.busy} onClick={inspect}>
          Inspect
        </button>
        {sells(competition) && (
          <button type="button" disabled={task.busy} onClick={() => void task.run(() => session.pause(id, !paused))}>
            {paused ? "Resume" : "Pause"}
          </button>
        )}
        {!TERMINAL.has(state) && (
          <button type="button" disabled={task.busy} onClick={() => void task.run(() => session.retry(id))}>
            Retry now
          </button>
        )}
        {canBeCancelled(competition) && (
          <button type="button" disabled={task.busy} onClick={() => dialog.current?.showModal()}>
            Cancel…
          </button>
        )}
      </p>
      {task.error && (
        <p class="bad" role="alert">
          {task.error.message}
        </p>
      )}
      {inspected && <Inspected found={inspected} onClose={() => setInspected(null)} />}
      <dialog ref={dialog} aria-label={`Cancel ${terms?.name ?? id}`}>
        <CancelForm
          busy={task.busy}
          onKeep={() => dialog.current?.close()}
          onCancel={async (reason) => {
            await task.run(() => session.cancel(id, reason));
            dialog.current?.close();
          }}
        />
      </dialog>
    </li>
  );
}

function CancelForm(props: { busy: boolean; onKeep: () => void; onCancel: (reason: string) => Promise<void> }) {
  const [reason, setReason] = useState("");
  return (
    <form
      class="form"
      onSubmit={(event) => {
        event.preventDefault();
        void props.onCancel(reason.trim());
      }}
    >
      <p>Every payment is returned to its player. This cannot be undone.</p>
      <label>
        Reason, shown to the players
        <input required maxLength={500} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      <p class="actions">
        <button type="submit" disabled={props.busy}>
          Cancel the competition
        </button>
        <button type="button" onClick={props.onKeep}>
          Keep it
        </button>
      </p>
    </form>
  );
}

function Inspected({ found, onClose }: { found: InspectCompetitionResponse; onClose: () => void }) {
  return (
    <section class="note" aria-label="Inspection">
      <p class={found.last_error ? "bad" : undefined}>
        {found.last_error
          ? `The last step failed ${count(found.failed_attempts)} times: ${found.last_error}`
          : "The last step went well."}
      </p>
      {found.next_attempt_at && (
        <p>
          Looked at again <Time at={found.next_attempt_at} relative />.
        </p>
      )}
      <h3>States so far</h3>
      <ol>
        {found.history.map((change) => (
          <li key={change.sequence}>
            {stateText(change.state).label}, <Time at={change.occurred_at} />
          </li>
        ))}
      </ol>
      <h3>Money in motion</h3>
      {found.intents.length === 0 && <p class="quiet">Nothing yet.</p>}
      <ul>
        {found.intents.map((intent) => (
          <li key={intent.key}>
            <code class="txid">{intent.key}</code> {intent.status}
          </li>
        ))}
      </ul>
      <details>
        <summary>Stored state</summary>
        <pre>{pretty(found.state_json)}</pre>
      </details>
      <button type="button" onClick={onClose}>
        Close
      </button>
    </section>
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function sells({ state }: Competition): boolean {
  return state === "created" || state === "collecting_entries";
}

/** The server has the last word; this only spares a button that could not work. */
function canBeCancelled({ state }: Competition): boolean {
  const at = LIFE.indexOf(state);
  return at >= 0 && at < LIFE.indexOf("funding_broadcasted");
}
