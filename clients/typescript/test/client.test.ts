import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { ApiError, CoordinatorClient, NetworkError, type ClientOptions } from "../src/index.ts";
import { TestServer, json, type Handler } from "./support.ts";

let server: TestServer | undefined;

async function clientOf(handler: Handler, options: ClientOptions = {}): Promise<CoordinatorClient> {
  server = await TestServer.start(handler);
  return new CoordinatorClient({ baseUrl: `${server.url}/`, ...options });
}

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

test("fields go into path, query string and body", async () => {
  const client = await clientOf((response) => json(response, 200, { id: "c1" }));
  await client.competition.listCompetitions({ page_size: 2, states: ["created", "failed"] });
  await client.competition.getCompetition({ competition_id: "a/b" });
  await client.competition.cancelCompetition({ competition_id: "c1", reason: "rain" });
  await client.entry.createEntry({
    entry: { ticket_id: "t1", ephemeral_pubkey: "02", payout_hash: "00" },
  });
  assert.deepEqual(
    server?.requests.map(({ method, path, body }) => [method, path, body]),
    [
      ["GET", "/api/v1/competitions?page_size=2&states=created&states=failed", ""],
      ["GET", "/api/v1/competitions/a%2Fb", ""],
      ["POST", "/api/v1/competitions/c1/cancel", '{"reason":"rain"}'],
      ["POST", "/api/v1/entries", '{"ticket_id":"t1","ephemeral_pubkey":"02","payout_hash":"00"}'],
    ],
  );
});

test("a missing path field is not sent as a path of its own", async () => {
  const client = await clientOf((response) => json(response, 200, {}));
  await assert.rejects(client.competition.getCompetition({ competition_id: "" }), TypeError);
  assert.equal(server?.requests.length, 0);
});

test("an authorization covers what is sent", async () => {
  const facts: unknown[] = [];
  const client = await clientOf((response) => json(response, 200, {}), {
    authorize: (request) => {
      facts.push(request);
      return "Nostr abc";
    },
  });
  await client.competition.cancelCompetition(
    { competition_id: "c1", reason: "x" },
    { idempotencyKey: "k1" },
  );
  const [seen] = server?.requests ?? [];
  assert.deepEqual(facts, [
    { url: `${server?.url}/api/v1/competitions/c1/cancel`, method: "POST", body: seen?.body },
  ]);
  assert.equal(seen?.headers.authorization, "Nostr abc");
  assert.equal(seen?.headers["idempotency-key"], "k1");
});

test("a problem document becomes an ApiError", async () => {
  const problem = {
    type: "urn:x",
    title: "Invalid request",
    status: 400,
    detail: "terms.name: is missing",
    instance: "/api/v1/competitions",
    reason: "INVALID_ARGUMENT",
    errors: [{ field: "terms.name", description: "is missing" }],
  };
  const client = await clientOf((response) => json(response, 400, problem));
  await assert.rejects(client.competition.listCompetitions(), (error: unknown) => {
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 400);
    assert.equal(error.reason, "INVALID_ARGUMENT");
    assert.equal(error.message, problem.detail);
    assert.deepEqual(error.problem?.errors, problem.errors);
    assert.equal(error.temporary, false);
    return true;
  });
});

test("a proxy's page is an ApiError too, with the wait it asks for", async () => {
  const client = await clientOf((response) =>
    response.writeHead(503, { "content-type": "text/html", "retry-after": "7" }).end("<h1>Busy</h1>"),
  );
  await assert.rejects(client.competition.getCoordinator(), (error: unknown) => {
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.problem, error.retryAfterSeconds], [503, null, 7]);
    assert.equal(error.temporary, true);
    return true;
  });
});

test("no server, no answer in time, and no JSON are NetworkErrors", async () => {
  const nowhere = new CoordinatorClient({ baseUrl: "http://127.0.0.1:1" });
  await assert.rejects(nowhere.competition.getCoordinator(), NetworkError);
  const silent = await clientOf(() => undefined, { timeoutMilliseconds: 50 });
  await assert.rejects(silent.competition.getCoordinator(), /in time/);
  await server?.stop();
  const html = await clientOf((response) => response.writeHead(200).end("<!doctype html>"));
  await assert.rejects(html.competition.getCoordinator(), NetworkError);
});

test("a signal ends a call with its reason", async () => {
  const client = await clientOf(() => undefined);
  const reason = new Error("changed my mind");
  const abort = new AbortController();
  const call = client.competition.getCoordinator({}, { signal: abort.signal });
  setTimeout(() => abort.abort(reason), 20);
  await assert.rejects(call, (error) => error === reason);
});
