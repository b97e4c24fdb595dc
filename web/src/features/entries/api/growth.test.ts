/** Pieces become text, whatever order and repetition they come in. */
import { expect, test } from "vitest";
import { grow } from "./growth";

test("pieces in order make the text", () => {
  const one = grow(null, 0, "The ");
  expect(grow(one, 4, "rain")).toEqual({ start: 0, end: 8, text: "The rain" });
});

test("offsets count characters, not UTF-16 units", () => {
  const one = grow(null, 0, "🌿🌿");
  expect(grow(one, 2, "!")).toEqual({ start: 0, end: 3, text: "🌿🌿!" });
  expect(grow(one, 1, "é").text).toBe("🌿é");
});

test("a piece at 0 is a new attempt", () => {
  expect(grow(grow(null, 0, "First try"), 0, "Second").text).toBe("Second");
});

test("a piece that came before replaces what stands there", () => {
  expect(grow(grow(null, 0, "abcdef"), 3, "def").text).toBe("abcdef");
});

test("behind a gap only the end is known, and it goes on from there", () => {
  const late = grow(null, 40, "and so");
  expect(late).toEqual({ start: 40, end: 46, text: "and so" });
  expect(grow(late, 46, " on").text).toBe("and so on");
  expect(grow(late, 90, "later")).toEqual({ start: 90, end: 95, text: "later" });
  expect(grow(late, 20, "earlier")).toEqual({ start: 20, end: 27, text: "earlier" });
});
