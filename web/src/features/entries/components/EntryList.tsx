/** A bucket's page: the composer, and under it the entries, newest first. */
import { memo, useEffect, useMemo } from "react";
import { problemOf } from "../../../shared/api/problem";
import { useAction } from "../../../shared/lib/useAction";
import { useCollection } from "../../../shared/live/collection";
import { useServices } from "../../../shared/services";
import { ProblemNote } from "../../../shared/ui/ProblemNote";
import type { Entries, Expansion, Original, Run } from "../api/entries";
import { type EntryCollection, entryCollection, loadMore, refreshRuns } from "../api/queries";
import { viewExpansion } from "../api/view";
import { Composer } from "./Composer";
import { ExpansionText } from "./ExpansionText";
import { OriginalText } from "./OriginalText";
import "./entries.css";

const FIRST_LOOK_MS = 2_000;
const LONGEST_LOOK_MS = 30_000;

/** Must be keyed by the bucket. */
export function EntryList({ bucketId }: { bucketId: string }) {
  const { api, live } = useServices();
  const collection = useMemo(() => entryCollection(api, bucketId), [api, bucketId]);
  const { state, loading, problem } = useCollection(collection, live);
  const more = useAction();
  useWaitingRuns(collection, state);
  const loadOlder = () => void more.run(() => loadMore(api, bucketId, collection));

  return (
    <>
      <Composer bucketId={bucketId} collection={collection} />
      <ProblemNote problem={problem} onRetry={collection.reload} />
      {state === null && loading && <p className="state state--busy">Loading…</p>}
      {state?.originals.length === 0 && (
        <p className="empty">Nothing here yet. What you drop above comes back longer.</p>
      )}
      <ol className="entries" aria-label="Texts, newest first">
        {state?.originals.map((original) => (
          <Entry
            key={original.blob_id}
            original={original}
            expansion={state.expansions.get(original.blob_id)}
            run={state.runs.get(original.blob_id)}
            collection={collection}
          />
        ))}
      </ol>
      <ProblemNote problem={more.problem} />
      {state !== null && state.originalsCursor !== null && (
        <button type="button" className="button more" disabled={more.busy} onClick={loadOlder}>
          {more.busy ? "Loading…" : "Load more"}
        </button>
      )}
    </>
  );
}

interface EntryProps {
  original: Original;
  expansion: Expansion | undefined;
  run: Run | undefined;
  collection: EntryCollection;
}

const Entry = memo(function Entry({ original, expansion, run, collection }: EntryProps) {
  return (
    <li className="entry" data-testid="entry" data-blob-id={original.blob_id}>
      <OriginalText original={original} collection={collection} />
      <ExpansionText original={original} expansion={expansion} run={run} />
    </li>
  );
});

function waitingIds(entries: Entries): string {
  const { originals, expansions, runs } = entries;
  return originals
    .filter((original) => {
      const { blob_id } = original;
      return viewExpansion(original, expansions.get(blob_id), runs.get(blob_id)).kind === "waiting";
    })
    .map((original) => original.blob_id)
    .join();
}

/** Asks about waiting runs, ever less often, for as long as an entry waits. */
function useWaitingRuns(collection: EntryCollection, entries: Entries | null): void {
  const { api } = useServices();
  const waiting = entries === null ? "" : waitingIds(entries);

  useEffect(() => {
    if (waiting === "") return;
    let delay = FIRST_LOOK_MS;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const look = async () => {
      try {
        await refreshRuns(api, collection);
      } catch (error) {
        // The next look tries again; that the server is out of reach is shown elsewhere.
        problemOf(error);
      }
      lookLater();
    };
    const lookLater = () => {
      if (isOver) return;
      timer = setTimeout(() => void look(), delay);
      delay = Math.min(delay * 2, LONGEST_LOOK_MS);
    };
    lookLater();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [api, collection, waiting]);
}
