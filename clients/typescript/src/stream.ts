import type { Transport } from "./call.ts";
import { ApiError, NetworkError } from "./errors.ts";
import type { CompetitionEvent, Snapshot } from "./generated.ts";
import { SseParser } from "./sse.ts";

/** An item of an event stream. */
export type StreamItem =
  /**
   * Where things stood before the events that follow. Comes first unless the stream starts after a sequence,
   * and again if the server's log does not reach back (or on) to where the stream was: what was known before
   * no longer counts then.
   */
  | { type: "snapshot"; snapshot: Snapshot }
  | { type: "event"; event: CompetitionEvent };

/** `offline`: the device itself has no network; `reconnecting`: it has, the server does not answer. */
export type ConnectionState = "connecting" | "connected" | "reconnecting" | "offline" | "closed";

/** How the connection is. */
export interface ConnectionStatus {
  state: ConnectionState;
  /** How many attempts have failed in a row. */
  failedAttempts: number;
  /** What went wrong last, null while connected. */
  error: Error | null;
}

export interface WatchOptions {
  /** Only this competition's events; absent: all. */
  competitionId?: string;
  /** Only these kinds; `ticket.*` is a whole group. */
  kinds?: readonly string[];
  /** Only events after this sequence (0: from the first), without a snapshot; absent: a snapshot, then new ones. */
  afterSequence?: number;
  /** Told of every change of the connection. */
  onConnection?: (status: ConnectionStatus) => void;
  /** Ends the stream. */
  signal?: AbortSignal;
  /** Waits, in milliseconds; the defaults suit the gateway's. */
  timing?: Partial<StreamTiming>;
}

export interface StreamTiming {
  /** Until the response starts. */
  connect: number;
  /** Silence after which the connection counts as dead; the gateway writes at least every 15 s. */
  silence: number;
  /** Before the first attempt to reconnect, unless the server says otherwise; then doubled each time. */
  retry: number;
  /** The longest wait between attempts. */
  retryMost: number;
}

const TIMING: StreamTiming = { connect: 20_000, silence: 45_000, retry: 1_000, retryMost: 30_000 };

/**
 * The event log as it grows, over as many connections as it takes: none missing, none twice.
 *
 * Iterate over it once; the loop ends with `close()` or the signal, and throws an ApiError if the server
 * refuses for good (e.g. 404: no such competition). Everything else is retried without end, with waits that
 * grow and differ between clients.
 */
export class EventStream implements AsyncIterable<StreamItem> {
  #status: ConnectionStatus = { state: "connecting", failedAttempts: 0, error: null };
  #lastSequence: number | null;
  #retryMilliseconds: number | null = null;
  #wake: (() => void) | null = null;
  #attempt: AbortController | null = null;
  #started = false;
  readonly #closing = new AbortController();
  readonly #transport: Transport;
  readonly #options: WatchOptions;
  readonly #timing: StreamTiming;
  readonly #path: string;
  readonly #query: URLSearchParams;

  constructor(transport: Transport, options: WatchOptions = {}) {
    this.#transport = transport;
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#lastSequence = options.afterSequence ?? null;
    this.#path =
      options.competitionId === undefined
        ? "/api/v1/events"
        : `/api/v1/competitions/${encodeURIComponent(options.competitionId)}/events`;
    this.#query = new URLSearchParams((options.kinds ?? []).map((kind) => ["kinds", kind]));
    const signal = options.signal;
    if (signal?.aborted) this.close();
    signal?.addEventListener("abort", () => this.close(), { once: true, signal: this.#closing.signal });
  }

  /** How the connection is now. */
  get status(): ConnectionStatus {
    return this.#status;
  }

  /** Sequence of the last event or snapshot that was delivered, null before there was one. */
  get lastSequence(): number | null {
    return this.#lastSequence;
  }

  /** Ends the stream; the loop over it ends too. Repeating it is harmless. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#set("closed", null, this.#status.failedAttempts);
  }

  /** Tries again at once instead of after the wait. Does nothing while connected. */
  retryNow(): void {
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StreamItem, void, void> {
    if (this.#started) throw new TypeError("an EventStream is iterated over once");
    this.#started = true;
    const stopListening = this.#listenToNetwork();
    try {
      while (!this.#closing.signal.aborted) {
        let failure: Error;
        try {
          yield* this.#connection();
          failure = new NetworkError("The server ended the stream.");
        } catch (error) {
          if (this.#closing.signal.aborted) return;
          failure = error instanceof Error ? error : new NetworkError(String(error));
          const refused = failure instanceof ApiError && !failure.temporary;
          if (refused || !(failure instanceof ApiError || failure instanceof NetworkError)) {
            this.#set("closed", failure, this.#status.failedAttempts + 1);
            throw failure;
          }
        }
        if (this.#closing.signal.aborted) return;
        const attempts = this.#status.failedAttempts + 1;
        this.#set(isOffline() ? "offline" : "reconnecting", failure, attempts);
        await this.#wait(this.#delay(attempts, failure));
      }
    } finally {
      stopListening();
      this.close();
    }
  }

  /** What one connection brings. Ends when the server ends it; rejects if it breaks. */
  async *#connection(): AsyncGenerator<StreamItem, void, void> {
    const attempt = new AbortController();
    this.#attempt = attempt;
    const signal = AbortSignal.any([attempt.signal, this.#closing.signal]);
    const watchdog = new Watchdog(attempt);
    watchdog.expect(this.#timing.connect, "The server did not answer in time.");
    try {
      const response = await this.#open(signal);
      if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream") || !response.body) {
        throw new NetworkError("The answer is not an event stream.");
      }
      this.#set("connected", null, 0);
      const parser = new SseParser();
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      try {
        for (;;) {
          watchdog.expect(this.#timing.silence, "The server fell silent.");
          const { done, value } = await reader.read();
          // Whoever iterates may take as long as it likes over an item: that is not the server's silence.
          watchdog.stop();
          if (done) return;
          for (const message of parser.push(decoder.decode(value, { stream: true }))) {
            const item = this.#item(message.event, message.id, message.data);
            if (item !== null) yield item;
          }
          this.#retryMilliseconds = parser.retryMilliseconds ?? this.#retryMilliseconds;
        }
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (error instanceof TypeError) throw new NetworkError("The connection broke.", { cause: error });
        throw error;
      } finally {
        reader.cancel().catch(() => undefined);
      }
    } finally {
      watchdog.stop();
      attempt.abort();
      if (this.#attempt === attempt) this.#attempt = null;
    }
  }

  #open(signal: AbortSignal): Promise<Response> {
    const query = new URLSearchParams(this.#query);
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (this.#lastSequence !== null) {
      query.set("after_sequence", String(this.#lastSequence));
      headers["last-event-id"] = String(this.#lastSequence);
    }
    const path = query.size > 0 ? `${this.#path}?${query}` : this.#path;
    return this.#transport.send("GET", path, headers, "", signal);
  }

  #item(event: string, id: string | null, data: string): StreamItem | null {
    let value: unknown;
    try {
      value = JSON.parse(data);
    } catch (error) {
      throw new NetworkError("A frame of the stream is damaged.", { cause: error });
    }
    if (event === "snapshot" && id === null) {
      const snapshot = value as Snapshot;
      this.#lastSequence = snapshot.sequence;
      return { type: "snapshot", snapshot };
    }
    if (id === null) return null;
    const stored = value as CompetitionEvent;
    if (!Number.isSafeInteger(stored?.sequence)) throw new NetworkError("A frame of the stream is damaged.");
    if (this.#lastSequence !== null && stored.sequence <= this.#lastSequence) return null;
    this.#lastSequence = stored.sequence;
    return { type: "event", event: stored };
  }

  #delay(attempts: number, failure: Error): number {
    const first = this.#retryMilliseconds ?? this.#timing.retry;
    const delay = Math.min(first * 2 ** Math.min(attempts - 1, 16), this.#timing.retryMost);
    const asked = failure instanceof ApiError ? (failure.retryAfterSeconds ?? 0) * 1000 : 0;
    // Between half and all of it: clients cut off together must not all come back at the same moment.
    return Math.max(delay * (0.5 + Math.random() / 2), asked);
  }

  #wait(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#closing.signal.removeEventListener("abort", done);
        this.#wake = null;
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      this.#closing.signal.addEventListener("abort", done);
      this.#wake = done;
    });
  }

  #set(state: ConnectionState, error: Error | null, failedAttempts: number): void {
    if (this.#status.state === "closed") return;
    this.#status = { state, error, failedAttempts };
    this.#options.onConnection?.(this.#status);
  }

  /** Tries anew when the device's network goes or comes: a broken connection may not show by itself. */
  #listenToNetwork(): () => void {
    if (typeof window === "undefined") return () => undefined;
    const lost = (): void => {
      if (this.#status.state === "closed") return;
      this.#set("offline", new NetworkError("This device is offline."), this.#status.failedAttempts);
      this.#attempt?.abort(new NetworkError("This device is offline."));
    };
    const found = (): void => {
      if (this.#status.state !== "offline") return;
      this.#set("reconnecting", this.#status.error, this.#status.failedAttempts);
      this.retryNow();
    };
    const shown = (): void => {
      if (document.visibilityState === "visible") this.retryNow();
    };
    window.addEventListener("offline", lost);
    window.addEventListener("online", found);
    document.addEventListener("visibilitychange", shown);
    return () => {
      window.removeEventListener("offline", lost);
      window.removeEventListener("online", found);
      document.removeEventListener("visibilitychange", shown);
    };
  }
}

/** Aborts an attempt from which nothing comes in time. */
class Watchdog {
  readonly #attempt: AbortController;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(attempt: AbortController) {
    this.#attempt = attempt;
  }

  expect(milliseconds: number, otherwise: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#attempt.abort(new NetworkError(otherwise)), milliseconds);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

function isOffline(): boolean {
  return (globalThis as { navigator?: { onLine?: boolean } }).navigator?.onLine === false;
}
