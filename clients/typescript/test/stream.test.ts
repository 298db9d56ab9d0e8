import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import {
  ApiError,
  CoordinatorClient,
  type ConnectionState,
  type EventStream,
  type WatchOptions,
} from "../src/index.ts";
import { TestServer, eventFrame, json, openStream, snapshotFrame, type Handler } from "./support.ts";

let server: TestServer | undefined;
const states: ConnectionState[] = [];

async function watch(handler: Handler, options: WatchOptions = {}): Promise<EventStream> {
  server = await TestServer.start(handler);
  states.length = 0;
  return new CoordinatorClient({ baseUrl: server.url }).watch({
    onConnection: (status) => states.push(status.state),
    timing: { retry: 10, retryMost: 50 },
    ...options,
  });
}

/** What the stream gives until it has given so many items: sequences, snapshots with an s. */
async function take(stream: EventStream, count: number): Promise<string[]> {
  const items: string[] = [];
  for await (const item of stream) {
    items.push(item.type === "event" ? `${item.event.sequence}` : `s${item.snapshot.sequence}`);
    if (items.length === count) break;
  }
  return items;
}

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

test("a snapshot, then events; a broken connection resumes after the last one", async () => {
  const stream = await watch((response, _, count) => {
    openStream(response);
    if (count === 1) {
      response.write(snapshotFrame(4) + eventFrame(5) + ": heartbeat\n\n" + eventFrame(6));
      // In the middle of a frame: that event was not received.
      response.write(eventFrame(7).slice(0, 40), () => response.destroy());
    } else {
      response.write(eventFrame(7) + eventFrame(9));
    }
  });
  assert.deepEqual(await take(stream, 5), ["s4", "5", "6", "7", "9"]);
  const [first, second] = server?.requests ?? [];
  assert.equal(first?.path, "/api/v1/events");
  assert.equal(first?.headers["last-event-id"], undefined);
  assert.equal(second?.headers["last-event-id"], "6");
  assert.equal(second?.path, "/api/v1/events?after_sequence=6");
  assert.deepEqual(states, ["connected", "reconnecting", "connected", "closed"]);
});

test("events that were delivered are not repeated, whatever the server sends", async () => {
  const stream = await watch(
    (response, _, count) => {
      openStream(response);
      response.write(count === 1 ? eventFrame(1) + eventFrame(2) : eventFrame(1) + eventFrame(2) + eventFrame(3));
      if (count === 1) response.end();
    },
    { afterSequence: 0, competitionId: "c 1", kinds: ["ticket.*", "entry.submitted"] },
  );
  assert.deepEqual(await take(stream, 3), ["1", "2", "3"]);
  assert.equal(
    server?.requests[0]?.path,
    "/api/v1/competitions/c%201/events?kinds=ticket.*&kinds=entry.submitted&after_sequence=0",
  );
});

test("a snapshot starts the count anew: the log may be another one", async () => {
  const stream = await watch((response, _, count) => {
    openStream(response);
    response.write(count === 1 ? eventFrame(900) : snapshotFrame(2) + eventFrame(3));
    if (count === 1) response.end();
  });
  assert.deepEqual(await take(stream, 3), ["900", "s2", "3"]);
});

test("temporary errors are retried and the wait that the server asks for is kept", async () => {
  const started = Date.now();
  const stream = await watch((response, _, count) => {
    if (count === 1) json(response, 503, { status: 503, detail: "busy", retry_after_seconds: 0.2 });
    else if (count === 2) response.writeHead(200, { "content-type": "text/html" }).end("<p>portal</p>");
    else {
      openStream(response);
      response.write(snapshotFrame(1));
    }
  });
  assert.deepEqual(await take(stream, 1), ["s1"]);
  assert.ok(Date.now() - started >= 200);
  assert.equal(server?.requests.length, 3);
  assert.deepEqual(states, ["reconnecting", "reconnecting", "connected", "closed"]);
});

test("a refusal ends the stream with the error", async () => {
  const stream = await watch((response) => json(response, 404, { status: 404, detail: "no such competition" }));
  await assert.rejects(take(stream, 1), (error: unknown) => {
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 404);
    return true;
  });
  assert.equal(server?.requests.length, 1);
  assert.deepEqual(states, ["closed"]);
});

test("a connection that falls silent is given up and resumed", async () => {
  const stream = await watch(
    (response, _, count) => {
      openStream(response);
      response.write(count === 1 ? eventFrame(1) : eventFrame(2));
    },
    { timing: { retry: 10, retryMost: 50, silence: 100 } },
  );
  assert.deepEqual(await take(stream, 2), ["1", "2"]);
});

test("a slow reader is not taken for a silent server", async () => {
  const stream = await watch(
    (response) => {
      openStream(response);
      response.write(eventFrame(1), () => setTimeout(() => response.write(eventFrame(2)), 20));
    },
    { timing: { retry: 10, retryMost: 50, silence: 200 } },
  );
  const seen: number[] = [];
  for await (const item of stream) {
    if (item.type === "event") seen.push(item.event.sequence);
    if (seen.length === 2) break;
    await new Promise((resolve) => setTimeout(resolve, 600));
  }
  assert.deepEqual(seen, [1, 2]);
  assert.equal(server?.requests.length, 1);
});

test("retryNow cuts the wait short", async () => {
  const stream = await watch(
    (response, _, count) => {
      if (count === 1) {
        json(response, 503, { status: 503, detail: "busy", retry_after_seconds: 60 });
        return;
      }
      openStream(response);
      response.write(eventFrame(1));
    },
    {
      onConnection: ({ state }) => {
        if (state === "reconnecting") setTimeout(() => stream.retryNow(), 10);
      },
    },
  );
  assert.deepEqual(await take(stream, 1), ["1"]);
});

test("close and a signal end the loop, connected or waiting", async () => {
  const abort = new AbortController();
  const connected = await watch((response) => openStream(response), { signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  assert.deepEqual(await take(connected, 1), []);
  await server?.stop();

  const waiting = await watch((response) =>
    json(response, 503, { status: 503, detail: "busy", retry_after_seconds: 60 }),
  );
  setTimeout(() => waiting.close(), 50);
  assert.deepEqual(await take(waiting, 1), []);
  assert.equal(waiting.status.state, "closed");
});

test("a stream is read once", async () => {
  const stream = await watch((response) => {
    openStream(response);
    response.write(eventFrame(1));
  });
  await take(stream, 1);
  await assert.rejects(take(stream, 1), TypeError);
});
