/** Owns what an entry's right side says, given what is known of its expansion and run. Pure. */
import type { Expansion, Original, Run } from "./entries";

export type ExpansionView =
  | { kind: "growing"; text: string; isWhole: boolean }
  | { kind: "done"; expansion: Expansion; isOutdated: boolean; isRewriting: boolean }
  | { kind: "running" }
  | { kind: "waiting"; detail: string | null }
  | { kind: "failed"; error: string | null }
  | { kind: "cancelled" }
  /** It was written, and has been deleted or filed elsewhere since. */
  | { kind: "gone" };

export function viewExpansion(
  original: Original,
  expansion: Expansion | undefined,
  run: Run | undefined,
): ExpansionView {
  const growth = run?.growth ?? null;
  const isRunning = run?.status === "running";
  const isFinishing = run?.status === "completed" && expansion === undefined;
  if (growth !== null && (isRunning || isFinishing)) {
    return { kind: "growing", text: growth.text, isWhole: growth.start === 0 };
  }
  if (expansion !== undefined) {
    const isOutdated = expansion.data.original !== original.data.content;
    return { kind: "done", expansion, isOutdated, isRewriting: isRunning };
  }
  if (isRunning) return { kind: "running" };
  if (isFinishing) return { kind: "gone" };
  if (run?.status === "failed") return { kind: "failed", error: run.error };
  if (run?.status === "cancelled") return { kind: "cancelled" };
  return { kind: "waiting", detail: run?.detail ?? null };
}

/** One line on how an expansion came about; an empty string if nothing is known. */
export function describeProvenance(expansion: Expansion): string {
  const { model, time } = expansion.provenance ?? {};
  const parts: string[] = [];
  if (typeof model === "string" && model !== "") parts.push(model);
  if (typeof time === "number") parts.push(`${time.toFixed(1)} s`);
  const ratio = expansion.data.expansion_ratio;
  if (Number.isFinite(ratio) && ratio > 0) parts.push(`${ratio.toFixed(1)}× the length`);
  return parts.join(" · ");
}
