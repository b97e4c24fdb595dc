/**
 * Owns the shapes of the server's WebSocket frames, as far as the page reads them.
 * Unknown types and fields pass by untouched.
 */

export interface EventFrame {
  type: string;
  seq: number;
  time: string;
  bucket_id: string | null;
  bucket_ids: string[];
  blob_id: string | null;
  schema_id: string | null;
  /** The event's own fields; their shape depends on `type`. */
  data: Record<string, unknown>;
}

/** A new piece of text from a run; not in the log, so without a seq. */
export interface ProgressFrame {
  type: "processor.progress";
  run_id: string;
  processor_id: string;
  /** The blob the run reads. */
  blob_id: string;
  /** Where the piece begins in the whole text, in characters (code points). */
  offset: number;
  text: string;
}

export type Frame = EventFrame | ProgressFrame;

export type ServerFrame =
  | { type: "subscribed"; epoch: string; head: number; recovered: boolean }
  | { type: "live"; seq: number }
  | { type: "error"; ref?: string; problem?: { status?: number } }
  | { type: "ack" }
  | { type: "pong" }
  | Frame;

const CONTROL = new Set(["subscribed", "live", "error", "ack", "pong"]);

export function isProgress(frame: Frame): frame is ProgressFrame {
  return frame.type === "processor.progress";
}

export function isContent(frame: ServerFrame): frame is Frame {
  return !CONTROL.has(frame.type);
}

/** Reads one text frame; null if it is not one of ours. */
export function parseFrame(text: unknown): ServerFrame | null {
  if (typeof text !== "string") return null;
  try {
    const value = JSON.parse(text) as { type?: unknown; seq?: unknown; data?: unknown } | null;
    if (typeof value?.type !== "string") return null;
    if (CONTROL.has(value.type) || value.type === "processor.progress") return value as ServerFrame;
    // Every event has a position in the log; what has none is not an event.
    if (typeof value.seq !== "number") return null;
    return { bucket_ids: [], data: {}, ...value } as unknown as EventFrame;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
