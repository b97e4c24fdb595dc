/** A refresh token is spent once, whoever asks for it how often. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { MemoryStorage, type Origin, serve, tokens } from "../testing";
import { SessionStore, SignedOut } from "./session";

let spent: string[];
let refusal: number | null;
let origin: Origin;
let storage: MemoryStorage;

beforeEach(async () => {
  spent = [];
  refusal = null;
  storage = new MemoryStorage();
  origin = await serve((_request, body) => {
    const { refresh_token } = body as { refresh_token: string };
    const isKnown = refresh_token === `refresh-${spent.length + 1}`;
    if (refusal !== null || !isKnown) return { status: refusal ?? 401 };
    spent.push(refresh_token);
    return { status: 200, body: tokens(spent.length + 1) };
  });
});

afterEach(() => origin.close());

test("calls that need a new token at the same time share one renewal", async () => {
  const session = new SessionStore(storage, origin.base);
  session.begin(tokens(1), "mira");
  const asked = Array.from({ length: 20 }, () => session.renew("access-1"));
  expect(new Set(await Promise.all(asked))).toEqual(new Set(["access-2"]));
  expect(spent).toEqual(["refresh-1"]);
});

test("a token that another tab has renewed already is taken over, not spent again", async () => {
  const here = new SessionStore(storage, origin.base);
  here.begin(tokens(1), "mira");
  const there = new SessionStore(storage, origin.base);
  await there.renew("access-1");
  expect(await here.renew("access-1")).toBe("access-2");
  expect(spent).toEqual(["refresh-1"]);
});

test("a token about to expire is renewed before it is used", async () => {
  const session = new SessionStore(storage, origin.base);
  session.begin({ ...tokens(1), expires_at: new Date(Date.now() + 200).toISOString() }, "mira");
  await expect.poll(() => session.token()).toBe("access-2");
});

test("a clock that says a fresh token has expired does not renew in a loop", async () => {
  const session = new SessionStore(storage, origin.base);
  session.begin(tokens(1, -3600), "mira");
  expect(await session.token()).toBe("access-1");
  expect(spent).toEqual([]);
});

test("a refused refresh token ends the session for everyone who listens", async () => {
  const session = new SessionStore(storage, origin.base);
  session.begin(tokens(1), "mira");
  refusal = 401;
  await expect(session.renew("access-1")).rejects.toBeInstanceOf(SignedOut);
  expect(session.current()).toBeNull();
  expect(session.hasExpired()).toBe(true);
  expect(new SessionStore(storage, origin.base).current()).toBeNull();
});

test("a server in trouble does not end the session", async () => {
  const session = new SessionStore(storage, origin.base);
  session.begin(tokens(1), "mira");
  refusal = 503;
  await expect(session.renew("access-1")).rejects.toMatchObject({ problem: { status: 503 } });
  refusal = null;
  expect(await session.renew("access-1")).toBe("access-2");
});

test("a stored session that is not one is as good as none", () => {
  for (const stored of ["{", "null", "7", '{"access_token": 4}']) {
    storage.setItem("reyna.session", stored);
    expect(new SessionStore(storage, origin.base).current()).toBeNull();
  }
});
