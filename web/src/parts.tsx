import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { CompetitionState } from "../../clients/typescript/src/index.ts";
import { dateTime, exactTime, fromNow } from "./format.ts";
import { TERMINAL, stateText } from "./states.ts";

const MINUTE_MS = 60_000;

export function Badge({ state }: { state: CompetitionState }) {
  const tone = state === "completed" ? "good" : TERMINAL.has(state) ? "bad" : "busy";
  return <span class={`badge ${tone}`}>{stateText(state).label}</span>;
}

/** A name and its value in a `<dl>`. */
export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** A moment in the reader's zone, how far away it is, and to the second with its zone on hovering. */
export function Time({ at, relative = false }: { at: string | null | undefined; relative?: boolean }) {
  const now = useMinute(relative);
  if (!at) return <>–</>;
  return (
    <time dateTime={at} title={exactTime(at)}>
      {dateTime(at)}
      {relative && <span class="quiet"> ({fromNow(at, now)})</span>}
    </time>
  );
}

/** How many of how many, as a bar and in words. */
export function Meter(props: { label: string; value: number; of: number; children?: ComponentChildren }) {
  return (
    <div class="meter">
      <progress max={Math.max(1, props.of)} value={Math.min(props.value, props.of)} aria-label={props.label} />
      <span>{props.children}</span>
    </div>
  );
}

/** The time, drawn anew every minute while it is needed. */
function useMinute(needed: boolean): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!needed) return;
    const timer = setInterval(() => setNow(Date.now()), MINUTE_MS);
    return () => clearInterval(timer);
  }, [needed]);
  return now;
}
