/** Owns reading the bucket forest as it came from the API. Pure. */

export interface Bucket {
  bucket_id: string;
  name: string;
  type: string;
  parent_bucket_id: string | null;
  children: Bucket[];
}

/** The bucket with this id, wherever it hangs. */
export function findBucket(forest: readonly Bucket[], id: string): Bucket | null {
  for (const bucket of forest) {
    const found = bucket.bucket_id === id ? bucket : findBucket(bucket.children, id);
    if (found !== null) return found;
  }
  return null;
}

/** The ancestors of a bucket from the root down, itself not included; empty if it is unknown. */
export function ancestors(forest: readonly Bucket[], id: string): Bucket[] {
  for (const bucket of forest) {
    if (bucket.bucket_id === id) return [];
    if (findBucket(bucket.children, id) !== null)
      return [bucket, ...ancestors(bucket.children, id)];
  }
  return [];
}

/** The forest with a new, empty bucket as the last child of its parent. */
export function withBucket(forest: readonly Bucket[], added: Bucket): Bucket[] {
  if (findBucket(forest, added.bucket_id) !== null) return [...forest];
  if (added.parent_bucket_id === null) return [...forest, added];
  return forest.map((bucket) =>
    bucket.bucket_id === added.parent_bucket_id
      ? { ...bucket, children: [...bucket.children, added] }
      : { ...bucket, children: withBucket(bucket.children, added) },
  );
}

export function withoutBucket(forest: readonly Bucket[], id: string): Bucket[] {
  return forest
    .filter((bucket) => bucket.bucket_id !== id)
    .map((bucket) => ({ ...bucket, children: withoutBucket(bucket.children, id) }));
}

export function withName(forest: readonly Bucket[], id: string, name: string): Bucket[] {
  return forest.map((bucket) =>
    bucket.bucket_id === id
      ? { ...bucket, name }
      : { ...bucket, children: withName(bucket.children, id, name) },
  );
}
