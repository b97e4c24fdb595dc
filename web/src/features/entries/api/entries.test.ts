/** A bucket's page follows the events of its originals, expansions and runs. */
import { describe, expect, test } from "vitest";
import { RELOAD } from "../../../shared/live/collection";
import type { EventFrame, ProgressFrame } from "../../../shared/live/frames";
import { applyFrame, type Entries, readRun, withRuns } from "./entries";
import { appendPage } from "./queries";
import { describeProvenance, viewExpansion } from "./view";

const EMPTY: Entries = {
  originals: [],
  expansions: new Map(),
  runs: new Map(),
  originalsCursor: null,
  expansionsCursor: null,
};

let seq = 100;

function event(type: string, fields: Partial<EventFrame>): EventFrame {
  seq += 1;
  const base = { bucket_id: "k1", bucket_ids: ["k1"], blob_id: null, schema_id: null, data: {} };
  return { type, seq, time: "2026-01-01T00:00:00Z", ...base, ...fields };
}

function created(blob_id: string, content: string, bucket = "k1"): EventFrame {
  const data = { data: { content } };
  const place = { bucket_id: bucket, bucket_ids: [bucket] };
  return event("blob.created", { blob_id, schema_id: "text-input-v1", data, ...place });
}

function derived(blob_id: string, parent_id: string, original: string, expanded: string) {
  const data = { data: { original, expanded, expansion_ratio: 2 }, parent_id, provenance: null };
  return event("blob.derived", { blob_id, schema_id: "expanded-text-v1", data });
}

function run(type: string, run_id: string, blob_id: string, more: object = {}): EventFrame {
  const data = { run_id, processor_id: "text-expansion", blob_id, ...more };
  return event(`processor.${type}`, { blob_id, data });
}

function piece(run_id: string, blob_id: string, offset: number, text: string): ProgressFrame {
  const processor_id = "text-expansion";
  return { type: "processor.progress", run_id, blob_id, processor_id, offset, text };
}

function after(...frames: (EventFrame | ProgressFrame)[]): Entries {
  return frames.reduce<Entries>((entries, frame) => {
    const next = applyFrame("k1", entries, frame);
    if (next === RELOAD) throw new Error(`${frame.type} asked for a reload`);
    return next;
  }, EMPTY);
}

function view(entries: Entries, blobId = "b1") {
  const original = entries.originals.find((known) => known.blob_id === blobId);
  if (original === undefined) throw new Error(`no original ${blobId}`);
  return viewExpansion(original, entries.expansions.get(blobId), entries.runs.get(blobId));
}

describe("a run", () => {
  const begun = [created("b1", "rain"), run("started", "r1", "b1")];

  test("waits, starts, grows and is done", () => {
    expect(view(after(created("b1", "rain")))).toEqual({ kind: "waiting", detail: null });
    expect(view(after(...begun))).toEqual({ kind: "running" });
    const pieces = [piece("r1", "b1", 0, "The "), piece("r1", "b1", 4, "rain")];
    const growing = { kind: "growing", text: "The rain", isWhole: true };
    expect(view(after(...begun, ...pieces))).toEqual(growing);
    const done = after(...begun, ...pieces, derived("d1", "b1", "rain", "The rain fell."));
    expect(view(done)).toMatchObject({ kind: "done", isOutdated: false, isRewriting: false });
  });

  test("keeps its text in sight between its completion and its blob", () => {
    const end = [piece("r1", "b1", 0, "All"), run("completed", "r1", "b1")];
    expect(view(after(...begun, ...end))).toMatchObject({ kind: "growing", text: "All" });
  });

  test("is not revived by a piece that comes in late", () => {
    const end = [derived("d1", "b1", "rain", "All"), piece("r1", "b1", 3, "!")];
    expect(view(after(...begun, ...end))).toMatchObject({ kind: "done" });
  });

  test("that fails says why, and another one starts over", () => {
    const failed = [piece("r1", "b1", 0, "Th"), run("failed", "r1", "b1", { error: "No model" })];
    expect(view(after(...begun, ...failed))).toEqual({ kind: "failed", error: "No model" });
    const again = [...failed, run("started", "r2", "b1"), piece("r2", "b1", 0, "New")];
    expect(view(after(...begun, ...again))).toMatchObject({ kind: "growing", text: "New" });
  });

  test("of another processor or for a blob elsewhere changes nothing", () => {
    const entries = after(created("b1", "rain"));
    const other = { ...piece("r1", "b1", 0, "x"), processor_id: "translation" };
    expect(applyFrame("k1", entries, other)).toBe(entries);
    expect(applyFrame("k1", entries, piece("r1", "b9", 0, "x"))).toBe(entries);
  });

  test("that is fetched keeps the text that has grown here", () => {
    const entries = after(...begun, piece("r1", "b1", 0, "The "));
    const fetched = new Map([["b1", readRun({ run_id: "r1" }, "running")]]);
    expect(view(withRuns(entries, fetched))).toMatchObject({ kind: "growing", text: "The " });
  });

  test("whose blob was deleted says that it is gone", () => {
    const end = [derived("d1", "b1", "rain", "All"), run("completed", "r1", "b1")];
    const deleted = event("blob.deleted", { blob_id: "d1" });
    expect(view(after(...begun, ...end, deleted))).toEqual({ kind: "gone" });
  });

  test("that waits passes its advice on", () => {
    const fetched = new Map([["b1", readRun({ run_id: "r1", detail: "Install one." }, "queued")]]);
    const waiting = { kind: "waiting", detail: "Install one." };
    expect(view(withRuns(after(created("b1", "rain")), fetched))).toEqual(waiting);
  });
});

describe("originals", () => {
  test("come newest first, once each, and only from this bucket", () => {
    const first = created("b1", "one");
    const entries = after(first, created("b2", "two"), first, created("b3", "far", "k2"));
    expect(entries.originals.map((original) => original.blob_id)).toEqual(["b2", "b1"]);
  });

  test("take a change once, and their expansion is then of an earlier version", () => {
    const known = [created("b1", "rain"), derived("d1", "b1", "rain", "Rain.")];
    const data = { data: { content: "snow" } };
    const updated = event("blob.updated", { blob_id: "b1", data });
    const entries = after(...known, updated);
    expect(entries.originals[0]).toMatchObject({ data: { content: "snow" }, seq: updated.seq });
    expect(view(entries)).toMatchObject({ kind: "done", isOutdated: true });
    const stale = { ...updated, seq: 1, data: { data: { content: "old" } } };
    expect(applyFrame("k1", entries, stale)).toEqual(entries);
  });

  test("go when they are deleted", () => {
    const entries = after(created("b1", "rain"), event("blob.deleted", { blob_id: "b1" }));
    expect(entries.originals).toEqual([]);
  });

  test("that are filed here or restored are fetched", () => {
    for (const type of ["bucket.blob.added", "bucket.blob.removed", "blob.restored"]) {
      expect(applyFrame("k1", EMPTY, event(type, { blob_id: "b1" }))).toBe(RELOAD);
      const elsewhere = event(type, { bucket_id: "k2", bucket_ids: ["k2"] });
      expect(applyFrame("k1", EMPTY, elsewhere)).toBe(EMPTY);
    }
  });
});

test("of several expansions the newest is shown", () => {
  const older = derived("d1", "b1", "rain", "Older.");
  const newer = derived("d2", "b1", "rain", "Newer.");
  const entries = after(created("b1", "rain"), newer, older);
  expect(entries.expansions.get("b1")?.data.expanded).toBe("Newer.");
});

test("a further page goes behind what is shown and overwrites nothing", () => {
  const shown = after(created("b2", "two"), derived("d2", "b2", "two", "Now."));
  const page = after(
    created("b1", "one"),
    created("b2", "two"),
    derived("d3", "b2", "two", "Then."),
  );
  const all = appendPage(shown, page);
  expect(all.originals.map((original) => original.blob_id)).toEqual(["b2", "b1"]);
  expect(all.expansions.get("b2")?.data.expanded).toBe("Now.");
});

test("provenance is one line of what is known", () => {
  const entries = after(created("b1", "rain"), derived("d1", "b1", "rain", "Rain."));
  const expansion = entries.expansions.get("b1");
  if (expansion === undefined) throw new Error("no expansion");
  expect(describeProvenance(expansion)).toBe("2.0× the length");
  const known = { ...expansion, provenance: { model: "SmolLM2", time: 4.21 } };
  expect(describeProvenance(known)).toBe("SmolLM2 · 4.2 s · 2.0× the length");
});
