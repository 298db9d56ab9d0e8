import { NetworkError, errorFrom } from "./errors.ts";

/** How one method goes over HTTP: the fields not in the path go into the body or the query string. */
export interface Operation {
  readonly method: string;
  /** With `{field}` for each field in it. */
  readonly path: string;
  /** `*`: every other field is the body; a name: that field is; empty: no body. */
  readonly body: string;
}

/** What a single call can be told. */
export interface CallOptions {
  /** Ends the call early; it then rejects with the signal's reason. */
  signal?: AbortSignal;
  /** The same key with the same content does it once. */
  idempotencyKey?: string;
}

/** Calls a method. Rejects with ApiError, NetworkError, or the signal's reason. */
export type Call = <Response>(
  operation: Operation,
  request: object,
  options?: CallOptions,
) => Promise<Response>;

/** What an authorization is made for: a NIP-98 event signs all of it. */
export interface RequestFacts {
  /** Absolute. */
  url: string;
  method: string;
  /** Exactly as sent; empty if there is none. */
  body: string;
}

/** Gives the Authorization header of a request, or null to send it without one. */
export type Authorize = (request: RequestFacts) => Promise<string | null> | string | null;

export interface ClientOptions {
  /** Where the gateway is, e.g. `https://play.example.org`; empty: where the page came from. */
  baseUrl?: string;
  /** Signs in, see {@link Authorize}. Without it a browser's session cookie is sent all the same. */
  authorize?: Authorize;
  /** How long a call may take, in milliseconds. */
  timeoutMilliseconds?: number;
  /** In place of the global fetch. */
  fetch?: typeof fetch;
}

/** Sends requests; what calls and streams have in common. */
export class Transport {
  readonly #base: string;
  readonly #authorize: Authorize | undefined;
  readonly #fetch: typeof fetch;
  readonly #timeoutMilliseconds: number;

  constructor(options: ClientOptions = {}) {
    const page = (globalThis as { location?: { origin?: string } }).location?.origin;
    const base = options.baseUrl || page;
    if (!base) throw new TypeError("baseUrl is needed outside of a browser");
    this.#base = base.replace(/\/+$/, "");
    this.#authorize = options.authorize;
    this.#timeoutMilliseconds = options.timeoutMilliseconds ?? 30_000;
    // Taken at each call: a global fetch may be replaced later, and must be called without a receiver.
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /** See {@link Call}. */
  call: Call = async <Answer>(
    operation: Operation,
    request: object,
    options: CallOptions = {},
  ): Promise<Answer> => {
    const { path, body } = httpRequest(operation, request);
    const headers: Record<string, string> = { accept: "application/json" };
    if (options.idempotencyKey !== undefined) headers["idempotency-key"] = options.idempotencyKey;
    const timeout = new AbortController();
    const timer = setTimeout(
      () => timeout.abort(new NetworkError("The server did not answer in time.")),
      this.#timeoutMilliseconds,
    );
    const signal = options.signal ? AbortSignal.any([options.signal, timeout.signal]) : timeout.signal;
    try {
      const response = await this.send(operation.method, path, headers, body, signal);
      return (await read(response, signal)) as Answer;
    } finally {
      clearTimeout(timer);
    }
  };

  /** The response of a request once its status is known to be good. Rejects as {@link Call} does. */
  async send(
    method: string,
    path: string,
    headers: Record<string, string>,
    body: string,
    signal: AbortSignal,
  ): Promise<Response> {
    const url = this.#base + path;
    const authorization = await this.#authorize?.({ url, method, body });
    if (authorization) headers["authorization"] = authorization;
    if (body) headers["content-type"] = "application/json";
    let response: Response;
    try {
      response = await this.#fetch(url, {
        method,
        headers,
        signal,
        cache: "no-store",
        credentials: "same-origin",
        ...(body ? { body } : {}),
      });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw new NetworkError("The server cannot be reached.", { cause: error });
    }
    if (!response.ok) throw await errorFrom(response);
    return response;
  }
}

async function read(response: Response, signal: AbortSignal): Promise<unknown> {
  try {
    return await response.json();
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw new NetworkError("The server's answer is not what the API promises.", { cause: error });
  }
}

/** A request message as path (with its query string) and body. */
export function httpRequest(operation: Operation, request: object): { path: string; body: string } {
  const rest = new Map<string, unknown>(Object.entries(request));
  let path = operation.path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = rest.get(name);
    rest.delete(name);
    if (value === undefined || value === "") throw new TypeError(`${name} is missing`);
    return encodeURIComponent(String(value));
  });
  let body = "";
  if (operation.body === "*") {
    body = JSON.stringify(Object.fromEntries(rest));
    rest.clear();
  } else if (operation.body) {
    body = JSON.stringify(rest.get(operation.body) ?? {});
    rest.delete(operation.body);
  }
  const query = new URLSearchParams();
  for (const [name, value] of rest) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== undefined && item !== null) query.append(name, String(item));
    }
  }
  if (query.size > 0) path += `?${query}`;
  return { path, body };
}
