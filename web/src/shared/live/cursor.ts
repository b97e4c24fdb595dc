/**
 * Owns how far the page has followed the log, and whether it may resume there. Pure: the
 * connection asks it what to send and tells it what came.
 */
import type { EventFrame } from "./frames";

/** What the collections must do after a subscription was answered. */
export type Resync =
  | { kind: "resumed" }
  /** No cursor was offered: whoever read a view before `head` has to read again. */
  | { kind: "started"; head: number }
  /** The cursor is void: everything has to be read again. */
  | { kind: "lost" };

export class LogCursor {
  private epoch: string | null = null;
  private seq = 0;

  /** The fields that ask the server to resume; none before the first subscription. */
  request(): { after: number; epoch: string } | Record<string, never> {
    return this.epoch === null ? {} : { after: this.seq, epoch: this.epoch };
  }

  subscribed(answer: { epoch: string; head: number; recovered: boolean }): Resync {
    const offered = this.epoch !== null;
    if (offered && answer.recovered) return { kind: "resumed" };
    this.epoch = answer.epoch;
    this.seq = answer.head;
    return offered ? { kind: "lost" } : { kind: "started", head: answer.head };
  }

  caughtUp(seq: number): void {
    this.seq = Math.max(this.seq, seq);
  }

  /** Whether an event is new here; counts it if so. */
  accept(event: EventFrame): boolean {
    if (event.seq <= this.seq) return false;
    this.seq = event.seq;
    return true;
  }

  forget(): void {
    this.epoch = null;
    this.seq = 0;
  }
}
