/** The selected bucket's name and place, and what one can do with the bucket itself. */
import { type FormEvent, useState } from "react";
import { useAction } from "../../../shared/lib/useAction";
import { ConfirmDialog } from "../../../shared/ui/ConfirmDialog";
import { ProblemNote } from "../../../shared/ui/ProblemNote";
import type { Bucket } from "../api/tree";

export function BucketHeader(props: {
  bucket: Bucket;
  path: readonly Bucket[];
  onRename: (name: string) => Promise<void>;
  onDelete: () => Promise<void>;
  onAddInside: () => void;
}) {
  const [mode, setMode] = useState<"show" | "rename" | "delete">("show");
  const [wasRenaming, setWasRenaming] = useState(false);
  const deletion = useAction();
  const startRename = () => {
    setMode("rename");
    setWasRenaming(true);
  };
  const show = () => {
    setMode("show");
    deletion.dismiss();
  };

  return (
    <header className="bucket-header">
      {props.path.length > 0 && (
        <p className="bucket-header__path">{props.path.map((b) => b.name).join(" / ")}</p>
      )}
      {mode === "rename" ? (
        <RenameForm name={props.bucket.name} onRename={props.onRename} onDone={show} />
      ) : (
        <div className="bucket-header__row">
          <h1>{props.bucket.name}</h1>
          <div className="bucket-header__actions">
            <button
              type="button"
              className="link"
              // The focus comes back here when the form closes.
              autoFocus={wasRenaming}
              onClick={startRename}
            >
              Rename
            </button>
            <button type="button" className="link" onClick={props.onAddInside}>
              Add inside
            </button>
            <button type="button" className="link" onClick={() => setMode("delete")}>
              Delete
            </button>
          </div>
        </div>
      )}
      {mode === "delete" && (
        <ConfirmDialog
          title={`Delete “${props.bucket.name}”?`}
          confirm="Delete bucket"
          busy={deletion.busy}
          problem={deletion.problem}
          onConfirm={() => void deletion.run(props.onDelete)}
          onCancel={show}
        >
          The bucket and every bucket inside it go to the trash. Their texts are kept, but are no
          longer filed here.
        </ConfirmDialog>
      )}
    </header>
  );
}

function RenameForm(props: {
  name: string;
  onRename: (name: string) => Promise<void>;
  onDone: () => void;
}) {
  const [name, setName] = useState(props.name);
  const action = useAction();
  const rename = async () => {
    const trimmed = name.trim();
    if (trimmed === "" || trimmed === props.name) return props.onDone();
    if (await action.run(() => props.onRename(trimmed))) props.onDone();
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void rename();
  };

  return (
    <form
      className="rename"
      onSubmit={submit}
      onKeyDown={(e) => e.key === "Escape" && props.onDone()}
    >
      <div className="rename__row">
        <input
          aria-label="Bucket name"
          autoFocus
          value={name}
          onChange={(event) => setName(event.target.value)}
          onFocus={(event) => event.target.select()}
        />
        <button className="button button--primary" disabled={action.busy}>
          Save
        </button>
        <button type="button" className="button" onClick={props.onDone}>
          Cancel
        </button>
      </div>
      <ProblemNote problem={action.problem} onRetry={() => void rename()} />
    </form>
  );
}
