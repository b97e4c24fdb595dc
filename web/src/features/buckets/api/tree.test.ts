/** The bucket forest stays a forest under the page's own changes. */
import { expect, test } from "vitest";
import { ancestors, type Bucket, findBucket, withBucket, withName, withoutBucket } from "./tree";

function bucket(id: string, parent: string | null, children: Bucket[] = []): Bucket {
  return { bucket_id: id, name: id, type: "folder", parent_bucket_id: parent, children };
}

const forest = [bucket("a", null, [bucket("b", "a", [bucket("c", "b")])]), bucket("d", null)];
const ids = (buckets: readonly Bucket[]): unknown[] =>
  buckets.map((b) => (b.children.length > 0 ? [b.bucket_id, ids(b.children)] : b.bucket_id));

test("a bucket is found at any depth, and an unknown one nowhere", () => {
  expect(findBucket(forest, "c")?.name).toBe("c");
  expect(findBucket(forest, "x")).toBeNull();
});

test("the ancestors lead from the root to the parent", () => {
  expect(ancestors(forest, "c").map((b) => b.bucket_id)).toEqual(["a", "b"]);
  expect(ancestors(forest, "d")).toEqual([]);
  expect(ancestors(forest, "x")).toEqual([]);
});

test("a new bucket hangs last under its parent, or at the top, and only once", () => {
  const inside = withBucket(forest, bucket("e", "b"));
  expect(ids(inside)).toEqual([["a", [["b", ["c", "e"]]]], "d"]);
  expect(withBucket(inside, bucket("e", "b"))).toEqual(inside);
  expect(ids(withBucket(forest, bucket("f", null)))).toEqual([["a", [["b", ["c"]]]], "d", "f"]);
});

test("a removed bucket takes what is in it along", () => {
  expect(ids(withoutBucket(forest, "b"))).toEqual(["a", "d"]);
});

test("a new name changes that bucket alone", () => {
  const renamed = withName(forest, "b", "Letters");
  expect(findBucket(renamed, "b")?.name).toBe("Letters");
  expect(findBucket(renamed, "b")?.children).toEqual(findBucket(forest, "b")?.children);
});
