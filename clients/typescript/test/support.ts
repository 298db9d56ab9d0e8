import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Seen {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: string;
}

export type Handler = (response: ServerResponse, seen: Seen, count: number) => void;

/** A server on a real socket that answers every request by `handler` and records it. */
export class TestServer {
  readonly requests: Seen[] = [];
  readonly #server: Server;

  private constructor(handler: Handler) {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const seen: Seen = {
          method: request.method ?? "",
          path: request.url ?? "",
          headers: request.headers,
          body: Buffer.concat(chunks).toString(),
        };
        this.requests.push(seen);
        handler(response, seen, this.requests.length);
      });
    });
  }

  static async start(handler: Handler): Promise<TestServer> {
    const server = new TestServer(handler);
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

export function json(response: ServerResponse, status: number, body: unknown, headers = {}): void {
  const type = status < 400 ? "application/json" : "application/problem+json";
  response.writeHead(status, { "content-type": type, ...headers }).end(JSON.stringify(body));
}

export function openStream(response: ServerResponse, retryMilliseconds = 20): void {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.write(`retry: ${retryMilliseconds}\n\n`);
}

export function eventFrame(sequence: number, kind = "ticket.paid"): string {
  const event = {
    sequence,
    competition_id: "c1",
    kind,
    occurred_at: "2026-01-01T00:00:00Z",
    state: "created",
    data: {},
  };
  return `id: ${sequence}\nevent: ${kind}\ndata: ${JSON.stringify(event)}\n\n`;
}

export function snapshotFrame(sequence: number): string {
  return `event: snapshot\ndata: ${JSON.stringify({ sequence, competitions: [] })}\n\n`;
}
