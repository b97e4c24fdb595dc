/**
 * Owns the reads behind a bucket's page: originals page by page, and with each page the expansions
 * and runs that belong to it.
 */
import type { Answer, ApiClient, Page } from "../../../shared/api/client";
import { ApiError } from "../../../shared/api/problem";
import { Collection, type Loaded } from "../../../shared/live/collection";
import {
  applyFrame,
  type Entries,
  type Expansion,
  EXPANSION_SCHEMA,
  type Original,
  PROCESSOR,
  readRun,
  type Run,
  type RunStatus,
  SOURCE_SCHEMA,
  withExpansion,
  withRuns,
} from "./entries";

const PAGE = 20;
const LONGEST_PAGE = 200;

export type EntryCollection = Collection<Entries>;

const EMPTY: Entries = {
  originals: [],
  expansions: new Map(),
  runs: new Map(),
  originalsCursor: null,
  expansionsCursor: null,
};

export function entryCollection(api: ApiClient, bucketId: string): EntryCollection {
  return new Collection<Entries>({
    load: (previous, minSeq) => loadEntries(api, bucketId, previous, minSeq),
    apply: (entries, frame) => applyFrame(bucketId, entries, frame),
  });
}

interface BlobQuery {
  bucketId: string;
  schemaId: string;
  limit: number;
  cursor: string | null;
  minSeq: number;
}

function fetchBlobs<B>(api: ApiClient, query: BlobQuery): Promise<Answer<Page<B>>> {
  const fields = new URLSearchParams({
    bucket_id: query.bucketId,
    schema_id: query.schemaId,
    limit: `${query.limit}`,
  });
  if (query.cursor !== null) fields.set("cursor", query.cursor);
  return api.query<Page<B>>(`/blobs?${fields}`, query.minSeq);
}

/** The newest run of each blob; none if there is no such processor. */
export async function fetchRuns(
  api: ApiClient,
  minSeq: number,
): Promise<Loaded<ReadonlyMap<string, Run>>> {
  const runs = new Map<string, Run>();
  try {
    const path = `/processors/${PROCESSOR}/runs?limit=${LONGEST_PAGE}`;
    const { body, seq } = await api.query<Page<Record<string, unknown>>>(path, minSeq);
    for (const fields of body.items) {
      const blobId = String(fields["blob_id"] ?? "");
      const status = String(fields["status"]) as RunStatus;
      if (!runs.has(blobId)) runs.set(blobId, readRun(fields, status));
    }
    return { state: runs, seq };
  } catch (error) {
    if (error instanceof ApiError && error.problem.status === 404)
      return { state: runs, seq: minSeq };
    throw error;
  }
}

/**
 * Adds expansions until every original shown has had its chance: an expansion is newer than its
 * source and lists are newest first, so the first one older than all the originals is the end.
 */
async function withExpansions(
  api: ApiClient,
  bucketId: string,
  entries: Entries,
  minSeq: number,
): Promise<Loaded<Entries>> {
  const oldest = entries.originals.at(-1);
  let state = entries;
  let seq = Number.POSITIVE_INFINITY;
  let isFirst = entries.expansionsCursor === null;
  while (oldest !== undefined && (isFirst || state.expansionsCursor !== null)) {
    const cursor = isFirst ? null : state.expansionsCursor;
    const query = { bucketId, schemaId: EXPANSION_SCHEMA, limit: LONGEST_PAGE, cursor, minSeq };
    const { body, seq: read } = await fetchBlobs<Expansion>(api, query);
    seq = Math.min(seq, read);
    isFirst = false;
    state = { ...body.items.reduce(withExpansion, state), expansionsCursor: body.next_cursor };
    const last = body.items.at(-1);
    if (last === undefined || Date.parse(last.created_at) < Date.parse(oldest.created_at)) break;
  }
  return { state, seq };
}

async function loadEntries(
  api: ApiClient,
  bucketId: string,
  previous: Entries | null,
  minSeq: number,
): Promise<Loaded<Entries>> {
  // A re-read shows no less than was shown before.
  const limit = Math.min(Math.max(previous?.originals.length ?? 0, PAGE), LONGEST_PAGE);
  const query = { bucketId, schemaId: SOURCE_SCHEMA, limit, cursor: null, minSeq };
  const originals = await fetchBlobs<Original>(api, query);
  const page = {
    ...EMPTY,
    originals: originals.body.items,
    originalsCursor: originals.body.next_cursor,
    runs: previous?.runs ?? EMPTY.runs,
  };
  const [expansions, runs] = await Promise.all([
    withExpansions(api, bucketId, page, minSeq),
    fetchRuns(api, minSeq),
  ]);
  // The views may differ in how far they have read; the least of them is certain for all.
  const seq = Math.min(originals.seq, expansions.seq, runs.seq);
  return { state: withRuns(expansions.state, runs.state), seq };
}

/** Fetches the next page of originals, with their expansions, onto the end of the collection. */
export async function loadMore(
  api: ApiClient,
  bucketId: string,
  collection: EntryCollection,
): Promise<void> {
  const entries = collection.current().state;
  if (entries === null || entries.originalsCursor === null) return;
  const cursor = entries.originalsCursor;
  const query = { bucketId, schemaId: SOURCE_SCHEMA, limit: PAGE, cursor, minSeq: 0 };
  const { body } = await fetchBlobs<Original>(api, query);
  const older = { ...entries, originals: body.items, originalsCursor: body.next_cursor };
  const { state } = await withExpansions(api, bucketId, older, 0);
  collection.update((now) => appendPage(now, state));
}

/** The page behind what is shown; what the shown part has learnt meanwhile wins. */
export function appendPage(shown: Entries, page: Entries): Entries {
  const known = new Set(shown.originals.map((original) => original.blob_id));
  const originals = page.originals.filter((original) => !known.has(original.blob_id));
  return {
    ...shown,
    originals: [...shown.originals, ...originals],
    expansions: new Map([...page.expansions, ...shown.expansions]),
    originalsCursor: page.originalsCursor,
    expansionsCursor: page.expansionsCursor,
  };
}

/** Reads the runs again: being queued is not an event, so a waiting run is asked about. */
export async function refreshRuns(api: ApiClient, collection: EntryCollection): Promise<void> {
  const { state: runs, seq } = await fetchRuns(api, collection.seq());
  // Events that came in during the request know more than its answer.
  if (seq >= collection.seq()) collection.update((entries) => withRuns(entries, runs));
}
