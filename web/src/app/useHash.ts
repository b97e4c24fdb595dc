/** Owns the page's address: `#/buckets/{bucket_id}`, so that a reload keeps the selected bucket. */
import { useSyncExternalStore } from "react";

const PREFIX = "#/buckets/";

function subscribe(listener: () => void): () => void {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}

function selected(): string | null {
  if (!location.hash.startsWith(PREFIX)) return null;
  try {
    return decodeURIComponent(location.hash.slice(PREFIX.length)) || null;
  } catch (error) {
    // Anyone can write an address; one that does not decode selects nothing.
    if (error instanceof URIError) return null;
    throw error;
  }
}

export function bucketHref(bucketId: string): string {
  return PREFIX + encodeURIComponent(bucketId);
}

export function useSelectedBucket(): string | null {
  return useSyncExternalStore(subscribe, selected);
}

/** Selects a bucket, or none; without `keepHistory` the back button skips where one was. */
export function selectBucket(bucketId: string | null, keepHistory = true): void {
  const hash = bucketId === null ? "#" : bucketHref(bucketId);
  if (keepHistory) location.assign(hash);
  else location.replace(hash);
}
