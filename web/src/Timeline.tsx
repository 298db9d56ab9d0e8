import type { Competition, CompetitionEvent, CompetitionState } from "../../clients/typescript/src/index.ts";
import { dateTime, exactTime, timeOfDay } from "./format.ts";
import { TERMINAL, stateText, timeline, type Step } from "./states.ts";

/** All states in order: which were passed and when, which is current, which are to come. */
export function Timeline(props: { competition: Competition; events: readonly CompetitionEvent[] }) {
  const { competition } = props;
  const times = new Map<CompetitionState, string | null>();
  for (const event of props.events) {
    if (event.kind === "competition.created" || event.kind === "competition.state_changed") {
      times.set(event.state, event.occurred_at);
    }
  }
  const ended = TERMINAL.has(competition.state);
  // Known even before its event has come.
  const since = (step: Step): string | null => (step.status === "current" ? competition.state_changed_at : null);
  return (
    <section aria-labelledby="timeline">
      <h2 id="timeline">Timeline</h2>
      <ol class="timeline">
        {timeline(competition.state, new Set(times.keys())).map((step) => (
          <li
            key={step.state}
            class={`${step.status}${step.status === "current" ? ` is-${step.state}` : ""}`}
            aria-current={step.status === "current" ? "step" : undefined}
          >
            <span class="mark" aria-hidden="true" />
            <span class="step">
              {stateText(step.state).label}
              <span class="visually-hidden">{spoken(step, ended)}</span>
            </span>
            <When step={step} at={times.get(step.state) ?? since(step)} ended={ended} />
          </li>
        ))}
      </ol>
    </section>
  );
}

function spoken(step: Step, ended: boolean): string {
  switch (step.status) {
    case "done":
      return ", passed";
    case "current":
      return ended ? ", the end" : ", now";
    case "ahead":
      return ended ? "" : ", to come";
    case "skipped":
      return "";
  }
}

function When({ step, at, ended }: { step: Step; at: string | null | undefined; ended: boolean }) {
  if (step.status === "skipped") return <span class="when">not needed</span>;
  if (step.status === "ahead") return ended ? <span class="when">not reached</span> : null;
  if (!at) return null;
  const today = new Date(at).toDateString() === new Date().toDateString();
  return (
    <time class="when" dateTime={at} title={exactTime(at)}>
      {today ? timeOfDay(at) : dateTime(at)}
    </time>
  );
}
