import type { Problem } from "./generated.ts";

/** The API answered with an error: an RFC 9457 problem document, or a status alone. */
export class ApiError extends Error {
  /** HTTP status. */
  readonly status: number;
  /** The whole document; null if the answer was none, e.g. a proxy's own page. */
  readonly problem: Problem | null;
  /** After how many seconds the server asks to try again, null if it does not say. */
  readonly retryAfterSeconds: number | null;

  constructor(status: number, problem: Problem | null, retryAfterSeconds: number | null) {
    super(problem?.detail ?? `The server answered with status ${status}.`);
    this.name = "ApiError";
    this.status = status;
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** The machine-readable reason, e.g. `COMPETITION_FULL`; empty if there is none. */
  get reason(): string {
    return this.problem?.reason ?? "";
  }

  /** Whether the same request may succeed later: overload, a restart, an overlong answer. */
  get temporary(): boolean {
    return this.status >= 500 || this.status === 408 || this.status === 425 || this.status === 429;
  }
}

/** No answer: the network is down, the server is not reachable, or it said nothing in time. */
export class NetworkError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "NetworkError";
  }
}

/** The error that a response stands for, its body read. */
export async function errorFrom(response: Response): Promise<ApiError> {
  let problem: Problem | null = null;
  try {
    const body: unknown = await response.json();
    if (typeof body === "object" && body !== null && "status" in body && "detail" in body) {
      problem = body as Problem;
    }
  } catch {
    // Not JSON: the status has to do.
  }
  return new ApiError(response.status, problem, retryAfter(response, problem));
}

function retryAfter(response: Response, problem: Problem | null): number | null {
  if (typeof problem?.retry_after_seconds === "number") return problem.retry_after_seconds;
  const text = response.headers.get("retry-after");
  if (text === null) return null;
  const seconds = Number(text);
  if (Number.isFinite(seconds) && seconds >= 0) return seconds;
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, (date - Date.now()) / 1000);
}
