import assert from "node:assert/strict";
import { test } from "node:test";
import { SseParser, type SseMessage } from "../src/index.ts";

function parse(...pieces: string[]): SseMessage[] {
  const parser = new SseParser();
  return pieces.flatMap((piece) => [...parser.push(piece)]);
}

const STREAM = [
  "\uFEFF: a comment\n\nretry: 1500\n\n",
  "id: 7\nevent: ticket.paid\ndata: {\ndata:  }\n\n",
  "event: snapshot\r\ndata:{}\r\n\r\n",
  "data\rid: x\u0000y\r\r",
  ": heartbeat\n\n",
].join("");

const MESSAGES = [
  { id: "7", event: "ticket.paid", data: "{\n }" },
  { id: null, event: "snapshot", data: "{}" },
  { id: null, event: "message", data: "" },
];

test("fields, comments, line ends and a byte order mark", () => {
  assert.deepEqual(parse(STREAM), MESSAGES);
});

test("the same messages from any pieces", () => {
  assert.deepEqual(parse(...STREAM), MESSAGES);
  for (let cut = 1; cut < STREAM.length; cut++) {
    assert.deepEqual(parse(STREAM.slice(0, cut), STREAM.slice(cut)), MESSAGES, `cut at ${cut}`);
  }
});

test("an unfinished message is not dispatched", () => {
  assert.deepEqual(parse("data: 1\n"), []);
});

test("the wait before reconnecting is digits only", () => {
  const parser = new SseParser();
  assert.deepEqual([...parser.push("retry: 1500\n\n")], []);
  assert.equal(parser.retryMilliseconds, 1500);
  assert.deepEqual([...parser.push("retry: 1s\n\n")], []);
  assert.equal(parser.retryMilliseconds, 1500);
});
