/**
 * Owns what a bucket's page is made of: originals, the newest expansion of each, the runs that
 * write them; and how events change that. Pure; fetching is `queries.ts`.
 */
import { RELOAD } from "../../../shared/live/collection";
import {
  type EventFrame,
  type Frame,
  isProgress,
  type ProgressFrame,
} from "../../../shared/live/frames";
import { type Growth, grow } from "./growth";

export const SOURCE_SCHEMA = "text-input-v1";
export const EXPANSION_SCHEMA = "expanded-text-v1";
export const PROCESSOR = "text-expansion";

export interface Blob<D> {
  blob_id: string;
  data: D;
  parent_id: string | null;
  provenance: Record<string, unknown> | null;
  seq: number;
  created_at: string;
}

export type Original = Blob<{ content: string }>;
export type Expansion = Blob<{ original: string; expanded: string; expansion_ratio: number }>;
export type RunStatus = "queued" | "running" | "completed" | "failed" | "cancelled";

export interface Run {
  run_id: string;
  status: RunStatus;
  /** Advice on a run that waits, such as that no model is installed. */
  detail: string | null;
  error: string | null;
  growth: Growth | null;
}

export interface Entries {
  /** Newest first. */
  originals: readonly Original[];
  /** By the id of the original. */
  expansions: ReadonlyMap<string, Expansion>;
  runs: ReadonlyMap<string, Run>;
  /** Where the next pages begin; null at the end. */
  originalsCursor: string | null;
  expansionsCursor: string | null;
}

function withItem<V>(map: ReadonlyMap<string, V>, key: string, value: V): ReadonlyMap<string, V> {
  return new Map(map).set(key, value);
}

export function withExpansion(entries: Entries, expansion: Expansion): Entries {
  const source = expansion.parent_id;
  if (source === null) return entries;
  const known = entries.expansions.get(source);
  if (known !== undefined && known.seq > expansion.seq) return entries;
  return { ...entries, expansions: withItem(entries.expansions, source, expansion) };
}

export function withOriginal(entries: Entries, original: Original): Entries {
  if (entries.originals.some((known) => known.blob_id === original.blob_id)) return entries;
  return { ...entries, originals: [original, ...entries.originals] };
}

/** The original as now read or written, in its place; nothing if what is known is newer. */
export function replaceOriginal(entries: Entries, changed: Original): Entries {
  const originals = entries.originals.map((known) =>
    known.blob_id === changed.blob_id && changed.seq >= known.seq ? changed : known,
  );
  return { ...entries, originals };
}

export function withoutBlob(entries: Entries, blobId: string): Entries {
  const originals = entries.originals.filter((original) => original.blob_id !== blobId);
  const kept = [...entries.expansions].filter(([, expansion]) => expansion.blob_id !== blobId);
  return { ...entries, originals, expansions: new Map(kept) };
}

/** Runs as just fetched, keeping the text that has grown here, which the server does not store. */
export function withRuns(entries: Entries, runs: ReadonlyMap<string, Run>): Entries {
  const merged = new Map(entries.runs);
  for (const [blobId, run] of runs) {
    const known = merged.get(blobId);
    merged.set(blobId, known?.run_id === run.run_id ? { ...run, growth: known.growth } : run);
  }
  return { ...entries, runs: merged };
}

function has(entries: Entries, blobId: string | null): blobId is string {
  return entries.originals.some((original) => original.blob_id === blobId);
}

function words(value: unknown): string | null {
  if (typeof value === "string") return value.trim() || null;
  if (typeof value !== "object" || value === null) return null;
  const { detail, message, title } = value as Record<string, unknown>;
  return words(detail) ?? words(message) ?? words(title);
}

/** A run as the API or an event tells it, without its text. */
export function readRun(fields: Record<string, unknown>, status: RunStatus): Run {
  return {
    run_id: String(fields["run_id"] ?? ""),
    status,
    detail: words(fields["detail"]),
    error: words(fields["error"]),
    growth: null,
  };
}

function applyProgress(entries: Entries, frame: ProgressFrame): Entries {
  const { run_id, blob_id, offset, text } = frame;
  if (frame.processor_id !== PROCESSOR || !has(entries, blob_id)) return entries;
  const known = entries.runs.get(blob_id);
  const isSame = known?.run_id === run_id;
  // Pieces are not in the log, so one may come in behind its run's end.
  if (isSame && (known.status === "completed" || known.status === "failed")) return entries;
  const growth = grow(isSame ? known.growth : null, offset, text);
  const run: Run = { run_id, status: "running", detail: null, error: null, growth };
  return { ...entries, runs: withItem(entries.runs, blob_id, run) };
}

function applyRun(entries: Entries, frame: EventFrame, status: RunStatus): Entries {
  const source = typeof frame.data["blob_id"] === "string" ? frame.data["blob_id"] : frame.blob_id;
  if (frame.data["processor_id"] !== PROCESSOR || !has(entries, source)) return entries;
  const run = readRun(frame.data, status);
  const known = entries.runs.get(source);
  // What had grown stays in sight until the finished blob takes its place.
  const growth = known?.run_id === run.run_id ? known.growth : null;
  return { ...entries, runs: withItem(entries.runs, source, { ...run, growth }) };
}

function blobOf<D>(frame: EventFrame): Blob<D> {
  const { data } = frame;
  return {
    blob_id: frame.blob_id ?? "",
    data: data["data"] as D,
    parent_id: (data["parent_id"] as string | undefined) ?? null,
    provenance: (data["provenance"] as Record<string, unknown> | undefined) ?? null,
    seq: frame.seq,
    created_at: frame.time,
  };
}

function applyDerived(entries: Entries, frame: EventFrame): Entries {
  const expansion = blobOf<Expansion["data"]>(frame);
  const source = expansion.parent_id;
  if (frame.schema_id !== EXPANSION_SCHEMA || !has(entries, source)) return entries;
  const next = withExpansion(entries, expansion);
  const run = next.runs.get(source);
  if (run?.status !== "running") return next;
  return { ...next, runs: withItem(next.runs, source, { ...run, status: "completed" }) };
}

function applyUpdate(entries: Entries, frame: EventFrame): Entries {
  const known = entries.originals.find((original) => original.blob_id === frame.blob_id);
  if (known === undefined) return entries;
  const changes = frame.data["data"] as Partial<Original["data"]> | undefined;
  return replaceOriginal(entries, {
    ...known,
    data: { ...known.data, ...changes },
    seq: frame.seq,
  });
}

/** How one frame changes the page of bucket `bucketId`. */
export function applyFrame(
  bucketId: string,
  entries: Entries,
  frame: Frame,
): Entries | typeof RELOAD {
  if (isProgress(frame)) return applyProgress(entries, frame);
  const isHere = frame.bucket_id === bucketId || frame.bucket_ids.includes(bucketId);
  switch (frame.type) {
    case "blob.created":
      return isHere && frame.schema_id === SOURCE_SCHEMA
        ? withOriginal(entries, blobOf(frame))
        : entries;
    case "blob.derived":
      return applyDerived(entries, frame);
    case "blob.updated":
      return applyUpdate(entries, frame);
    case "blob.deleted":
      return frame.blob_id === null ? entries : withoutBlob(entries, frame.blob_id);
    case "processor.started":
      return applyRun(entries, frame, "running");
    case "processor.completed":
      return applyRun(entries, frame, "completed");
    case "processor.failed":
      return applyRun(entries, frame, "failed");
    case "blob.restored":
    case "bucket.blob.added":
    case "bucket.blob.removed":
      return isHere ? RELOAD : entries;
    default:
      return entries;
  }
}
