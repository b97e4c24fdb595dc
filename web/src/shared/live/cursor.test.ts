/** The page resumes where it was, and knows when it cannot. */
import { expect, test } from "vitest";
import { LogCursor } from "./cursor";
import { type EventFrame, parseFrame } from "./frames";

function event(seq: number): EventFrame {
  return parseFrame(JSON.stringify({ type: "blob.created", seq })) as EventFrame;
}

test("the first subscription offers no cursor and starts at the head", () => {
  const cursor = new LogCursor();
  expect(cursor.request()).toEqual({});
  const answer = { epoch: "e1", head: 130, recovered: false };
  expect(cursor.subscribed(answer)).toEqual({ kind: "started", head: 130 });
  expect(cursor.request()).toEqual({ after: 130, epoch: "e1" });
});

test("a recovered subscription goes on from the last event seen, not from the head", () => {
  const cursor = new LogCursor();
  cursor.subscribed({ epoch: "e1", head: 130, recovered: false });
  expect(cursor.accept(event(131))).toBe(true);
  expect(cursor.subscribed({ epoch: "e1", head: 140, recovered: true })).toEqual({
    kind: "resumed",
  });
  expect(cursor.request()).toEqual({ after: 131, epoch: "e1" });
  cursor.caughtUp(140);
  expect(cursor.request()).toEqual({ after: 140, epoch: "e1" });
});

test("an event is accepted once", () => {
  const cursor = new LogCursor();
  cursor.subscribed({ epoch: "e1", head: 1, recovered: false });
  expect([2, 2, 1, 5].map((seq) => cursor.accept(event(seq)))).toEqual([true, false, false, true]);
});

test("a cursor that was not recovered is lost, and the new log's takes its place", () => {
  const cursor = new LogCursor();
  cursor.subscribed({ epoch: "e1", head: 130, recovered: false });
  expect(cursor.subscribed({ epoch: "e2", head: 3, recovered: false })).toEqual({ kind: "lost" });
  expect(cursor.request()).toEqual({ after: 3, epoch: "e2" });
});

test("a frame that is not one of ours is dropped", () => {
  for (const text of ["{", "null", "[]", '{"type":4}', '{"type":"blob.created"}', 7]) {
    expect(parseFrame(text)).toBeNull();
  }
});
