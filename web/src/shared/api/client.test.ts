/** Calls carry what the API's conventions ask for. */
import type { IncomingMessage } from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { MemoryStorage, type Origin, type Reply, serve, tokens } from "../testing";
import { ApiClient } from "./client";
import { SessionStore } from "./session";

let answer: (request: IncomingMessage, body: unknown) => Reply;
let origin: Origin;
let api: ApiClient;

beforeEach(async () => {
  origin = await serve((request, body) => answer(request, body));
  const session = new SessionStore(new MemoryStorage(), origin.base);
  session.begin(tokens(1), "mira");
  api = new ApiClient(session, origin.base);
});

afterEach(() => origin.close());

test("a query asks for a view that has reached the last command", async () => {
  const asked: (string | string[] | undefined)[] = [];
  answer = (request) => {
    asked.push(request.headers["reyna-min-seq"]);
    return { status: 200, body: {}, headers: { "Reyna-Seq": "41" } };
  };
  await api.query("/blobs");
  await api.command({ method: "POST", path: "/blobs", body: {} });
  await api.query("/blobs");
  await api.query("/blobs", 50);
  api.forgetPositions();
  await api.query("/blobs");
  expect(asked).toEqual([undefined, undefined, "41", "50", undefined]);
});

test("a command carries its key and its condition, and an empty answer is fine", async () => {
  let seen: IncomingMessage["headers"] = {};
  answer = (request) => {
    seen = request.headers;
    return { status: 204, headers: { "Reyna-Seq": "7" } };
  };
  const command = { method: "DELETE", path: "/blobs/b1", idempotencyKey: "k", ifMatch: 6 } as const;
  expect(await api.command(command)).toEqual({ body: null, seq: 7 });
  expect(seen).toMatchObject({ "idempotency-key": "k", "if-match": '"6"' });
});

test("a 401 renews the token and repeats the call once", async () => {
  const seen: string[] = [];
  answer = (request) => {
    if (request.url === "/auth/refresh") return { status: 200, body: tokens(2) };
    seen.push(request.headers.authorization ?? "");
    return { status: seen.length === 1 ? 401 : 200, body: { items: [] } };
  };
  expect((await api.query("/blobs")).body).toEqual({ items: [] });
  expect(seen).toEqual(["Bearer access-1", "Bearer access-2"]);
});

test("an error answer is thrown as its problem, also when it is HTML", async () => {
  answer = () => ({ status: 409, body: { detail: "That is taken." } });
  await expect(api.query("/x")).rejects.toMatchObject({ problem: { detail: "That is taken." } });
  answer = () => ({ status: 502, headers: { "Content-Type": "text/html" } });
  await expect(api.query("/x")).rejects.toMatchObject({ problem: { status: 502 } });
});
