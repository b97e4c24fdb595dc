/** The form that makes a bucket, at the top of the forest or inside `parent`. */
import { type FormEvent, useEffect, useId, useRef } from "react";
import { EMPTY, useDraft } from "../../../shared/lib/draft";
import { newKey } from "../../../shared/lib/ids";
import { useAction } from "../../../shared/lib/useAction";
import { ProblemNote } from "../../../shared/ui/ProblemNote";
import type { Bucket } from "../api/tree";

export function NewBucket({
  parent,
  onCreate,
  onLeaveParent,
}: {
  parent: Bucket | null;
  onCreate: (name: string, key: string) => Promise<void>;
  onLeaveParent: () => void;
}) {
  const [draft, setDraft] = useDraft("reyna.draft.bucket");
  const action = useAction();
  const input = useRef<HTMLInputElement>(null);
  const id = useId();
  useEffect(() => {
    if (parent !== null) input.current?.focus();
  }, [parent]);

  const create = () => {
    const name = draft.text.trim();
    if (name === "") return;
    const key = draft.key ?? newKey();
    setDraft({ ...draft, key });
    void action.run(async () => {
      await onCreate(name, key);
      setDraft(EMPTY);
    });
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create();
  };

  return (
    <form className="new-bucket" onSubmit={submit}>
      <div className="new-bucket__label">
        <label htmlFor={id}>{parent ? `New bucket in “${parent.name}”` : "New bucket"}</label>
        {parent && (
          <button type="button" className="link" onClick={onLeaveParent}>
            at the top instead
          </button>
        )}
      </div>
      <div className="new-bucket__row">
        <input
          id={id}
          ref={input}
          data-testid="bucket-name"
          placeholder="Its name"
          autoComplete="off"
          readOnly={action.busy}
          value={draft.text}
          onChange={(event) => setDraft({ text: event.target.value, key: null })}
        />
        <button className="button" data-testid="bucket-create" disabled={action.busy}>
          Add
        </button>
      </div>
      <ProblemNote problem={action.problem} onRetry={create} />
    </form>
  );
}
