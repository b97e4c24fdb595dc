/**
 * Owns what was typed and not yet acknowledged: kept in localStorage, so that neither a reload nor
 * a lost server takes it. A draft carries the idempotency key it was last sent with; the key goes
 * when the text changes, so sending the same text again can never make a second blob.
 */
import { useCallback, useState } from "react";

export interface Draft {
  text: string;
  key: string | null;
}

export const EMPTY: Draft = { text: "", key: null };

export function readDraft(name: string): Draft {
  const stored = localStorage.getItem(name);
  if (stored === null) return EMPTY;
  try {
    const value = JSON.parse(stored) as Partial<Draft> | null;
    return typeof value?.text === "string" ? { text: value.text, key: value.key ?? null } : EMPTY;
  } catch (error) {
    if (error instanceof SyntaxError) return EMPTY;
    throw error;
  }
}

function writeDraft(name: string, draft: Draft): void {
  try {
    if (draft.text === "") localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(draft));
  } catch (error) {
    // A full or forbidden storage must not stop the typing; the text is still on the screen.
    if (!(error instanceof DOMException)) throw error;
  }
}

/** Forgets a stored draft once its text was acknowledged, unless it was changed meanwhile. */
export function settleDraft(name: string, text: string): void {
  if (readDraft(name).text === text) writeDraft(name, EMPTY);
}

/** A draft under `name`; a component that shows another one must be keyed by it. */
export function useDraft(name: string): [Draft, (draft: Draft) => void] {
  const [draft, setDraft] = useState(() => readDraft(name));
  const change = useCallback(
    (next: Draft) => {
      writeDraft(name, next);
      setDraft(next);
    },
    [name],
  );
  return [draft, change];
}
