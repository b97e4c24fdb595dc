/** Imports only go down: app, then features, then shared; no feature knows another. */
import { expect, test } from "vitest";

const sources = import.meta.glob<string>("../**/*.{ts,tsx}", {
  eager: true,
  query: "?raw",
  import: "default",
});

function room(path: string): string {
  const [layer = "", feature = ""] = path.split("/");
  return layer === "features" ? `features/${feature}` : layer;
}

function imports(file: string, source: string): string[] {
  const found = source.matchAll(/from "(\.[^"]+)"/g);
  return Array.from(found, ([, target = ""]) =>
    new URL(target, `file:///${file}`).pathname.slice(1),
  );
}

test("shared imports neither features nor app, and features neither each other nor app", () => {
  const wrong = Object.entries(sources).flatMap(([key, source]) => {
    const file = key.startsWith("../") ? key.slice(3) : `app/${key.slice(2)}`;
    const from = room(file);
    const isAllowed = (target: string) =>
      from === "app" || from === "main.tsx" || room(target) === from || room(target) === "shared";
    return imports(file, source)
      .filter((target) => !isAllowed(target))
      .map((target) => `${file} imports ${target}`);
  });
  expect(Object.keys(sources).length).toBeGreaterThan(20);
  expect(wrong).toEqual([]);
});
