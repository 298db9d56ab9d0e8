import { useEffect, useState } from "preact/hooks";

import {
  ApiError,
  NetworkError,
  type CompetitionEvent,
  type ConnectionState,
  type CoordinatorClient,
  type EventStream,
  type Snapshot,
  type WatchOptions,
} from "../../clients/typescript/src/index.ts";

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

/** Something that changes and tells who shows it, once for all changes of one moment. */
export class Observable {
  readonly #listeners = new Set<() => void>();
  #telling = false;

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  protected changed(): void {
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

/** Draws the component anew whenever `observable` changes. */
export function useObservable(observable: Observable): void {
  const [, draw] = useState(0);
  useEffect(() => observable.subscribe(() => draw((count) => count + 1)), [observable]);
}

/**
 * What a page shows: loaded once, then kept up to date by one event stream. Nothing is asked for on a timer.
 *
 * Everything that may pass (a lost network, a restarting server) is tried again; `refusal` is set if the
 * server said no for good, and nothing goes on then until `retry()`.
 */
export abstract class LiveStore extends Observable {
  connection: ConnectionState = "connecting";
  /** When the last connection was lost, null while there is one: what is shown is as of then. */
  lostAt: number | null = null;
  refusal: Error | null = null;

  protected readonly client: CoordinatorClient;
  #session: AbortController | null = null;
  #stream: EventStream | null = null;
  #wake: (() => void) | null = null;

  constructor(client: CoordinatorClient) {
    super();
    this.client = client;
  }

  /** Whether `load` has to come (again) before the stream. */
  protected abstract readonly stale: boolean;
  protected abstract load(signal: AbortSignal): Promise<void>;
  /** What to watch, and from where. */
  protected abstract watched(): WatchOptions;
  protected abstract onEvent(event: CompetitionEvent): void;
  /** The log does not reach back to where the stream was; true: `load` anew. */
  protected abstract onSnapshot(snapshot: Snapshot): boolean;
  /** A connection is there (again). */
  protected onConnected(): void {}

  /** Loads and follows until `stop`. Goes on from where it was, if it was stopped before. */
  start(): void {
    if (this.#session) return;
    this.#session = new AbortController();
    this.refusal = null;
    this.#set("connecting");
    void this.#run(this.#session.signal);
  }

  stop(): void {
    this.#session?.abort();
    this.#session = null;
    this.#stream = null;
  }

  /** Tries at once what would be tried later, or anew what was refused. */
  retry(): void {
    if (this.refusal) {
      this.stop();
      this.start();
      return;
    }
    this.#wake?.();
    this.#stream?.retryNow();
  }

  async #run(signal: AbortSignal): Promise<void> {
    try {
      while (!signal.aborted) {
        if (this.stale) await this.#persistently(() => this.load(signal), signal);
        await this.#follow(signal);
      }
    } catch (error) {
      if (signal.aborted) return;
      this.refusal = error instanceof Error ? error : new Error(String(error));
      this.#set("closed");
      if (!(error instanceof ApiError)) throw error;
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const stream = this.client.watch({
      ...this.watched(),
      signal,
      onConnection: ({ state }) => {
        if (signal.aborted || state === "closed") return;
        this.#set(state);
        if (state === "connected") this.onConnected();
      },
    });
    this.#stream = stream;
    for await (const item of stream) {
      if (signal.aborted) return;
      if (item.type === "event") this.onEvent(item.event);
      else if (this.onSnapshot(item.snapshot)) return;
      this.changed();
    }
  }

  async #persistently(task: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (let wait = FIRST_RETRY_MS; ; wait = Math.min(2 * wait, LONGEST_RETRY_MS)) {
      try {
        await task();
        this.changed();
        return;
      } catch (error) {
        if (signal.aborted || !passes(error)) throw error;
        this.#set(navigator.onLine ? "reconnecting" : "offline");
        const asked = error instanceof ApiError ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
        await this.#pause(Math.max(asked, wait * (0.5 + Math.random() / 2)), signal);
        if (signal.aborted) throw error;
      }
    }
  }

  #pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        window.removeEventListener("online", done);
        signal.removeEventListener("abort", done);
        this.#wake = null;
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      window.addEventListener("online", done);
      signal.addEventListener("abort", done);
      this.#wake = done;
    });
  }

  #set(state: ConnectionState): void {
    if (state === "connected") this.lostAt = null;
    else if (this.connection === "connected") this.lostAt = Date.now();
    this.connection = state;
    this.changed();
  }
}

/** Whether an error may be gone at the next attempt. */
export function passes(error: unknown): boolean {
  return error instanceof NetworkError || (error instanceof ApiError && error.temporary);
}
