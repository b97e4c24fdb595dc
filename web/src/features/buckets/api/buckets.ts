/**
 * Owns the user's bucket forest: its live collection and its commands. A bucket event fetches the
 * forest again: it is small, and the server alone knows how a move or a restore reshapes it.
 */
import type { ApiClient } from "../../../shared/api/client";
import { Collection, RELOAD } from "../../../shared/live/collection";
import { type Bucket, withBucket, withName, withoutBucket } from "./tree";

const RESHAPING = new Set([
  "bucket.created",
  "bucket.updated",
  "bucket.structure.changed",
  "bucket.deleted",
  "bucket.restored",
]);

export type Buckets = Collection<Bucket[]>;

export function bucketCollection(api: ApiClient): Buckets {
  return new Collection<Bucket[]>({
    load: async (_previous, minSeq) => {
      const { body, seq } = await api.query<{ items: Bucket[] }>("/buckets/tree", minSeq);
      return { state: body.items, seq };
    },
    apply: (state, frame) => (RESHAPING.has(frame.type) ? RELOAD : state),
  });
}

/** Makes a bucket and answers its id. */
export async function createBucket(
  api: ApiClient,
  buckets: Buckets,
  fields: { name: string; parentId: string | null; key: string },
): Promise<string> {
  const { name, parentId, key } = fields;
  const body = { name, type: "folder", ...(parentId ? { parent_bucket_id: parentId } : {}) };
  const { body: made } = await api.command<{ bucket_id: string }>({
    method: "POST",
    path: "/buckets",
    body,
    idempotencyKey: key,
  });
  const { bucket_id } = made;
  const bucket = { bucket_id, name, type: "folder", parent_bucket_id: parentId, children: [] };
  buckets.update((forest) => withBucket(forest, bucket));
  return bucket_id;
}

export async function renameBucket(
  api: ApiClient,
  buckets: Buckets,
  id: string,
  name: string,
): Promise<void> {
  const path = `/buckets/${encodeURIComponent(id)}`;
  await api.command({ method: "PATCH", path, body: { name } });
  buckets.update((forest) => withName(forest, id, name));
}

export async function deleteBucket(api: ApiClient, buckets: Buckets, id: string): Promise<void> {
  await api.command({ method: "DELETE", path: `/buckets/${encodeURIComponent(id)}` });
  buckets.update((forest) => withoutBucket(forest, id));
}
