/** The signed-in page: the bucket list beside the selected bucket. Composes the features. */
import { useEffect, useMemo, useState } from "react";
import { signOut } from "../features/auth/api/auth";
import {
  bucketCollection,
  createBucket,
  deleteBucket,
  renameBucket,
} from "../features/buckets/api/buckets";
import { ancestors, type Bucket, findBucket } from "../features/buckets/api/tree";
import { BucketHeader } from "../features/buckets/components/BucketHeader";
import { BucketTree } from "../features/buckets/components/BucketTree";
import { NewBucket } from "../features/buckets/components/NewBucket";
import { ConnectionBadge } from "../features/connection/components/ConnectionBadge";
import { EntryList } from "../features/entries/components/EntryList";
import { ModelNotice } from "../features/processors/components/ModelNotice";
import type { SessionStore } from "../shared/api/session";
import { useCollection } from "../shared/live/collection";
import { useServices } from "../shared/services";
import { ProblemNote } from "../shared/ui/ProblemNote";
import { bucketHref, selectBucket, useSelectedBucket } from "./useHash";

export function Studio({ session }: { session: SessionStore }) {
  const { api, live } = useServices();
  const buckets = useMemo(() => bucketCollection(api), [api]);
  const { state: forest, loading, problem } = useCollection(buckets, live);
  const selectedId = useSelectedBucket();
  const selected = forest && selectedId ? findBucket(forest, selectedId) : null;
  const [parent, setParent] = useState<Bucket | null>(null);
  const [isMenuOpen, setMenuOpen] = useState(false);
  // On a narrow page the list makes room for the bucket, unless there is none to show.
  const isListShown = isMenuOpen || selected === null;

  const firstId = forest?.[0]?.bucket_id;
  useEffect(() => {
    if (selectedId === null && firstId !== undefined) selectBucket(firstId, false);
  }, [selectedId, firstId]);
  useEffect(() => {
    document.title = selected ? `${selected.name} – ReYNa Studio` : "ReYNa Studio";
  }, [selected]);

  const create = async (name: string, key: string) => {
    selectBucket(
      await createBucket(api, buckets, { name, key, parentId: parent?.bucket_id ?? null }),
    );
    setParent(null);
    setMenuOpen(false);
  };
  const remove = async (bucket: Bucket) => {
    await deleteBucket(api, buckets, bucket.bucket_id);
    selectBucket(bucket.parent_bucket_id, false);
  };

  return (
    <div className="studio">
      <header className="topbar">
        <p className="brand">ReYNa Studio</p>
        <ConnectionBadge />
        {selected && (
          <button
            type="button"
            className="button button--small topbar__menu"
            aria-expanded={isMenuOpen}
            aria-controls="buckets"
            onClick={() => setMenuOpen(!isMenuOpen)}
          >
            Buckets
          </button>
        )}
      </header>
      <aside className={isListShown ? "sidebar" : "sidebar sidebar--closed"} id="buckets">
        <nav aria-label="Buckets">
          <h2 className="sidebar__title">Buckets</h2>
          <ProblemNote problem={problem} onRetry={buckets.reload} />
          {forest === null && loading && <p className="state state--busy">Loading…</p>}
          {forest?.length === 0 && <p className="quiet">None yet.</p>}
          {forest && (
            <BucketTree
              buckets={forest}
              selectedId={selectedId}
              href={bucketHref}
              onChoose={() => setMenuOpen(false)}
            />
          )}
        </nav>
        <NewBucket parent={parent} onCreate={create} onLeaveParent={() => setParent(null)} />
        <footer className="sidebar__foot">
          <span className="sidebar__user">{session.current()?.label}</span>
          <button type="button" className="link" onClick={() => void signOut(session)}>
            Sign out
          </button>
        </footer>
      </aside>
      <main className="page">
        <ModelNotice />
        {selected ? (
          <>
            <BucketHeader
              key={`header-${selected.bucket_id}`}
              bucket={selected}
              path={ancestors(forest ?? [], selected.bucket_id)}
              onRename={(name) => renameBucket(api, buckets, selected.bucket_id, name)}
              onDelete={() => remove(selected)}
              onAddInside={() => {
                setParent(selected);
                setMenuOpen(true);
              }}
            />
            <EntryList key={selected.bucket_id} bucketId={selected.bucket_id} />
          </>
        ) : (
          forest && <Nothing isGone={selectedId !== null} isFirst={forest.length === 0} />
        )}
      </main>
    </div>
  );
}

function Nothing({ isGone, isFirst }: { isGone: boolean; isFirst: boolean }) {
  if (isGone && !isFirst) {
    return <p className="empty">This bucket is not there any more. Choose another one.</p>;
  }
  return (
    <div className="empty">
      <h1>Begin with a bucket</h1>
      <p>A bucket is a place for texts that belong together. Name one, and drop something in it.</p>
    </div>
  );
}
