/** Problems are read tolerantly and told in plain words. */
import { describe, expect, test } from "vitest";
import { ApiError, describeField, parseProblem, problemOf } from "./problem";

describe("parseProblem", () => {
  test("keeps detail and field errors of a problem document", () => {
    const errors = [{ path: "/data/content", keyword: "type", message: "must be a string" }];
    const problem = parseProblem(422, { title: "Invalid", detail: "It is not valid.", errors });
    expect(problem.detail).toBe("It is not valid.");
    expect(problem.errors).toEqual([expect.objectContaining({ path: "/data/content" })]);
  });

  test.each([null, "<html>", 7, [], { detail: 4, errors: "no" }, { errors: [null, {}, 3] }])(
    "makes a sentence of a body that is no problem document: %j",
    (body) => {
      const problem = parseProblem(503, body);
      expect(problem.detail).toBe("The server cannot do this just now.");
      expect(problem.errors).toEqual([]);
    },
  );

  test("says how long to wait when the server does", () => {
    expect(parseProblem(429, { detail: "Slow down." }, "2").detail).toBe(
      "Slow down. Try again in 2 s.",
    );
    expect(parseProblem(503, { detail: "Down." }, "Wed, 21 Oct 2026").detail).toBe("Down.");
  });
});

test("an unreachable server is a problem with a sentence of its own", () => {
  expect(problemOf(new TypeError("fetch failed")).status).toBe(0);
  expect(problemOf(new ApiError(parseProblem(404, null))).status).toBe(404);
});

test("an error that is not from a call is thrown on, not shown as a problem", () => {
  expect(() => problemOf(new RangeError("a bug"))).toThrow(RangeError);
});

test("a field error names its field in words", () => {
  expect(describeField({ path: "/data/reply_to", message: "is unknown" })).toBe(
    "Reply to: is unknown",
  );
  expect(describeField({ path: "/a~1b", message: "is odd" })).toBe("A/b: is odd");
  expect(describeField({ path: "", message: "must be an object" })).toBe("must be an object");
});
