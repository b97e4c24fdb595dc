/**
 * Owns the pattern of every live list: a fetch plus a subscription. Frames that arrive during a
 * fetch are kept and applied behind it, so nothing falls between the two; after a lost cursor it is
 * fetched again. What is fetched and how a frame changes it is the feature's.
 */
import { useEffect, useSyncExternalStore } from "react";
import { type Problem, problemOf } from "../api/problem";
import type { LiveSource } from "./connection";
import type { Resync } from "./cursor";
import { type Frame, isProgress } from "./frames";

/** An answer of `apply`: this frame cannot be folded here, fetch again. */
export const RELOAD = Symbol("reload");

export interface Loaded<S> {
  state: S;
  /** The log position of the view that was read. */
  seq: number;
}

export interface CollectionSpec<S> {
  /** Fetches from views that have reached `minSeq`; `previous` is what was shown until now. */
  load(previous: S | null, minSeq: number): Promise<Loaded<S>>;
  apply(state: S, frame: Frame): S | typeof RELOAD;
}

export interface Snapshot<S> {
  state: S | null;
  loading: boolean;
  problem: Problem | null;
}

export class Collection<S> {
  private snapshot: Snapshot<S> = { state: null, loading: true, problem: null };
  private position = 0;
  private generation = 0;
  private pending: Frame[] | null = null;
  private again = false;
  private stopped = true;
  private readonly listeners = new Set<() => void>();
  private readonly spec: CollectionSpec<S>;

  constructor(spec: CollectionSpec<S>) {
    this.spec = spec;
  }

  readonly current = (): Snapshot<S> => this.snapshot;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** The log position up to which the state is complete. */
  seq(): number {
    return this.position;
  }

  start(live: LiveSource): () => void {
    this.stopped = false;
    const stop = live.listen({
      frame: (frame) => this.receive(frame),
      resync: (resync) => this.resync(resync),
    });
    this.reload();
    return () => {
      this.stopped = true;
      stop();
    };
  }

  readonly reload = (): void => {
    if (this.pending !== null) this.again = true;
    else void this.load();
  };

  /** Folds in what a command of one's own has just been acknowledged to have done. */
  update(change: (state: S) => S): void {
    if (this.snapshot.state === null) return;
    this.publish({ state: change(this.snapshot.state) });
    // A fetch under way may have read before the command and would undo the change.
    if (this.pending !== null) this.again = true;
  }

  private receive(frame: Frame): void {
    this.pending?.push(frame);
    if (this.snapshot.state !== null) this.fold(frame);
  }

  private fold(frame: Frame): void {
    const { state } = this.snapshot;
    if (state === null) return;
    if (!isProgress(frame)) {
      if (frame.seq <= this.position) return;
      this.position = frame.seq;
    }
    const next = this.spec.apply(state, frame);
    if (next !== RELOAD) {
      if (next !== state) this.publish({ state: next });
      return;
    }
    this.reload();
  }

  private resync(resync: Resync): void {
    if (resync.kind === "lost") {
      this.position = 0;
      this.generation += 1;
      this.reload();
    } else if (this.snapshot.problem !== null) {
      this.reload();
    } else if (resync.kind === "started" && this.position < resync.head) {
      this.position = resync.head;
      this.reload();
    }
  }

  private async load(): Promise<void> {
    const { generation } = this;
    this.pending = [];
    this.again = false;
    this.publish({ loading: true });
    try {
      const loaded = await this.spec.load(this.snapshot.state, this.position);
      // What was read from a log that is gone says nothing about the new one.
      if (generation === this.generation) this.accept(loaded);
    } catch (error) {
      this.publish({ problem: problemOf(error) });
    } finally {
      this.pending = null;
      this.publish({ loading: false });
    }
    if (this.again && !this.stopped) await this.load();
  }

  private accept(loaded: Loaded<S>): void {
    const frames = this.pending ?? [];
    this.position = loaded.seq;
    this.publish({ state: loaded.state, problem: null });
    for (const frame of frames) this.fold(frame);
  }

  private publish(change: Partial<Snapshot<S>>): void {
    this.snapshot = { ...this.snapshot, ...change };
    for (const listener of [...this.listeners]) listener();
  }
}

/** Keeps a collection running while the component is shown; the collection must be memoised. */
export function useCollection<S>(collection: Collection<S>, live: LiveSource): Snapshot<S> {
  useEffect(() => collection.start(live), [collection, live]);
  return useSyncExternalStore(collection.subscribe, collection.current);
}
