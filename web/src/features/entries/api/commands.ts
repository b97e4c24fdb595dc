/** Owns the writes of a bucket's page; each folds its acknowledged effect into the collection. */
import type { ApiClient } from "../../../shared/api/client";
import {
  type Original,
  replaceOriginal,
  SOURCE_SCHEMA,
  withOriginal,
  withoutBlob,
} from "./entries";
import type { EntryCollection } from "./queries";

function blobPath(blobId: string): string {
  return `/blobs/${encodeURIComponent(blobId)}`;
}

/** Creates an original; the same key and text, sent again, create nothing more. */
export async function createOriginal(
  api: ApiClient,
  collection: EntryCollection,
  bucketId: string,
  draft: { content: string; key: string },
): Promise<void> {
  const data = { content: draft.content };
  const { body, seq } = await api.command<{ blob_id: string; created_at: string; seq: number }>({
    method: "POST",
    path: "/blobs",
    body: { schema_id: SOURCE_SCHEMA, data, bucket_ids: [bucketId] },
    idempotencyKey: draft.key,
  });
  const { blob_id, created_at } = body;
  const created = { blob_id, data, parent_id: null, provenance: null, seq, created_at };
  collection.update((entries) => withOriginal(entries, created));
}

/** Saves new content if nobody else changed it since `original`. @throws ApiError 412 if so */
export async function saveOriginal(
  api: ApiClient,
  collection: EntryCollection,
  original: Original,
  content: string,
): Promise<void> {
  const { seq } = await api.command({
    method: "PATCH",
    path: blobPath(original.blob_id),
    body: { data: { content } },
    ifMatch: original.seq,
  });
  const saved = { ...original, data: { ...original.data, content }, seq };
  collection.update((entries) => replaceOriginal(entries, saved));
}

/** Reads one original again, as after a failed save. */
export async function rereadOriginal(
  api: ApiClient,
  collection: EntryCollection,
  blobId: string,
): Promise<void> {
  const { body } = await api.query<Original>(blobPath(blobId));
  collection.update((entries) => replaceOriginal(entries, body));
}

export async function deleteOriginal(
  api: ApiClient,
  collection: EntryCollection,
  blobId: string,
): Promise<void> {
  await api.command({ method: "DELETE", path: blobPath(blobId) });
  collection.update((entries) => withoutBlob(entries, blobId));
}
