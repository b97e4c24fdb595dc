/**
 * Owns text that arrives in pieces. Offsets count characters as the server does, in code points,
 * not in JavaScript's UTF-16 units. Pure.
 */

export interface Growth {
  /** Where the known text begins: above 0 when the beginning was missed. */
  start: number;
  /** Where the known text ends. */
  end: number;
  text: string;
}

function length(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** The text with one more piece; a piece at 0 begins anew, one behind a gap keeps only itself. */
export function grow(known: Growth | null, offset: number, piece: string): Growth {
  const end = offset + length(piece);
  if (known === null || offset === 0 || offset < known.start || offset > known.end) {
    return { start: offset, end, text: piece };
  }
  if (offset === known.end) return { start: known.start, end, text: known.text + piece };
  const kept = Array.from(known.text)
    .slice(0, offset - known.start)
    .join("");
  return { start: known.start, end, text: kept + piece };
}
