/** The bucket forest as nested links; the selected one is the current page. */
import type { Bucket } from "../api/tree";

interface TreeProps {
  buckets: readonly Bucket[];
  selectedId: string | null;
  href: (bucketId: string) => string;
  onChoose: () => void;
}

export function BucketTree(props: TreeProps) {
  return (
    <ul className="tree">
      {props.buckets.map((bucket) => (
        <li key={bucket.bucket_id}>
          <a
            className="tree__item"
            data-testid="bucket-item"
            href={props.href(bucket.bucket_id)}
            aria-current={bucket.bucket_id === props.selectedId ? "page" : undefined}
            onClick={props.onChoose}
          >
            {bucket.name}
          </a>
          {bucket.children.length > 0 && <BucketTree {...props} buckets={bucket.children} />}
        </li>
      ))}
    </ul>
  );
}
