/** One field takes an email address or a phone number. */
import { expect, test } from "vitest";
import { identify } from "./auth";

test("an @ makes an email address, anything else a phone number without ornaments", () => {
  expect(identify(" mira@example.org ")).toEqual({ email: "mira@example.org" });
  expect(identify("+49 (30) 123-45.67")).toEqual({ phone: "+49301234567" });
});
