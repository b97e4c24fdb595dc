/** A collection misses nothing between its fetch and its subscription. */
import { beforeEach, expect, test } from "vitest";
import { Collection, type Loaded, RELOAD } from "./collection";
import type { LiveListener } from "./connection";
import type { Resync } from "./cursor";
import { type Frame, isProgress, parseFrame } from "./frames";

/** A list of event seqs that is fetched by hand. */
class Fetches {
  readonly asked: number[] = [];
  private readonly waiting: { resolve(l: Loaded<number[]>): void; reject(e: Error): void }[] = [];

  readonly load = (_previous: number[] | null, minSeq: number) => {
    this.asked.push(minSeq);
    return new Promise<Loaded<number[]>>((resolve, reject) => {
      this.waiting.push({ resolve, reject });
    });
  };

  async answer(state: number[], seq: number): Promise<void> {
    this.waiting.shift()?.resolve({ state, seq });
    await settled();
  }

  async fail(): Promise<void> {
    this.waiting.shift()?.reject(new TypeError("unreachable"));
    await settled();
  }
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

let listener: LiveListener;
let fetches: Fetches;
let collection: Collection<number[]>;

const live = {
  listen(added: LiveListener) {
    listener = added;
    return () => undefined;
  },
};

function emit(seq: number, type = "blob.created"): void {
  listener.frame(parseFrame(JSON.stringify({ type, seq })) as Frame);
}

function resync(answer: Resync): void {
  listener.resync(answer);
}

beforeEach(() => {
  fetches = new Fetches();
  collection = new Collection<number[]>({
    load: fetches.load,
    apply: (state, frame) => {
      if (isProgress(frame)) return state;
      return frame.type === "bucket.restored" ? RELOAD : [...state, frame.seq];
    },
  });
  collection.start(live);
});

test("events that come during the fetch are applied behind it, once", async () => {
  emit(4);
  emit(5);
  await fetches.answer([1, 4], 4);
  emit(5);
  emit(6);
  expect(collection.current()).toEqual({ state: [1, 4, 5, 6], loading: false, problem: null });
});

test("a first subscription behind the fetched position fetches nothing again", async () => {
  await fetches.answer([1], 9);
  resync({ kind: "started", head: 9 });
  expect(fetches.asked).toEqual([0]);
});

test("a first subscription ahead of the fetched position fetches again up to it", async () => {
  await fetches.answer([1], 9);
  resync({ kind: "started", head: 12 });
  await fetches.answer([1, 12], 12);
  expect(fetches.asked).toEqual([0, 12]);
  expect(collection.current().state).toEqual([1, 12]);
});

test("a resumed subscription fetches nothing unless the last fetch had failed", async () => {
  await fetches.answer([1], 9);
  resync({ kind: "resumed" });
  expect(fetches.asked).toEqual([0]);
  collection.reload();
  await fetches.fail();
  expect(collection.current().problem?.status).toBe(0);
  expect(collection.current().state).toEqual([1]);
  resync({ kind: "resumed" });
  await fetches.answer([1], 9);
  expect(collection.current().problem).toBeNull();
});

test("a lost log throws away a fetch from the old one and reads the new", async () => {
  await fetches.answer([1], 90);
  collection.reload();
  resync({ kind: "lost" });
  await fetches.answer([1, 80], 95);
  await fetches.answer([2], 3);
  emit(4);
  expect(collection.current().state).toEqual([2, 4]);
  expect(fetches.asked).toEqual([0, 90, 0]);
});

test("an event that cannot be folded fetches again from a view that has seen it", async () => {
  await fetches.answer([1], 9);
  emit(10, "bucket.restored");
  emit(11);
  await fetches.answer([1, 10], 10);
  expect(fetches.asked).toEqual([0, 10]);
  expect(collection.current().state).toEqual([1, 10, 11]);
});

test("a change of one's own during a fetch is not undone by it", async () => {
  await fetches.answer([1], 9);
  collection.reload();
  collection.update((state) => [...state, 10]);
  await fetches.answer([1], 9);
  await fetches.answer([1, 10], 10);
  expect(collection.current().state).toEqual([1, 10]);
});
