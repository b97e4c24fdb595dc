/** The left side of an entry: the writer's own text, to read, edit and delete. */
import { type KeyboardEvent, useState } from "react";
import { ApiError } from "../../../shared/api/problem";
import { EMPTY, readDraft, useDraft } from "../../../shared/lib/draft";
import { useAction } from "../../../shared/lib/useAction";
import { useServices } from "../../../shared/services";
import { ConfirmDialog } from "../../../shared/ui/ConfirmDialog";
import { ProblemNote } from "../../../shared/ui/ProblemNote";
import { When } from "../../../shared/ui/When";
import { deleteOriginal, rereadOriginal, saveOriginal } from "../api/commands";
import type { Original } from "../api/entries";
import type { EntryCollection } from "../api/queries";

interface Props {
  original: Original;
  collection: EntryCollection;
}

const editName = (original: Original) => `reyna.edit.${original.blob_id}`;

export function OriginalText({ original, collection }: Props) {
  const { api } = useServices();
  // An edit that was cut off by a reload goes on where it was.
  const [isEditing, setEditing] = useState(() => readDraft(editName(original)).text !== "");
  const [hasEdited, setHasEdited] = useState(false);
  const [isDeleting, setDeleting] = useState(false);
  const deletion = useAction();

  return (
    <section className="side side--original" aria-label="Original">
      <div className="side__head">
        <span className="side__title">
          Original <When time={original.created_at} />
        </span>
        {!isEditing && (
          <span className="side__actions">
            <button
              type="button"
              className="link"
              // The focus comes back here when the editor closes.
              autoFocus={hasEdited}
              onClick={() => setEditing(true)}
            >
              Edit
            </button>
            <button type="button" className="link" onClick={() => setDeleting(true)}>
              Delete
            </button>
          </span>
        )}
      </div>
      {isEditing ? (
        <OriginalEditor
          original={original}
          collection={collection}
          onDone={() => {
            setEditing(false);
            setHasEdited(true);
          }}
        />
      ) : (
        <div className="prose" data-testid="entry-original">
          {original.data.content}
        </div>
      )}
      {isDeleting && (
        <ConfirmDialog
          title="Delete this text?"
          confirm="Delete text"
          busy={deletion.busy}
          problem={deletion.problem}
          onConfirm={() =>
            void deletion.run(() => deleteOriginal(api, collection, original.blob_id))
          }
          onCancel={() => {
            setDeleting(false);
            deletion.dismiss();
          }}
        >
          The original goes to the trash and leaves this page.
        </ConfirmDialog>
      )}
    </section>
  );
}

function OriginalEditor({ original, collection, onDone }: Props & { onDone: () => void }) {
  const { api } = useServices();
  const [draft, setDraft] = useDraft(editName(original));
  const [text, setText] = useState(draft.text || original.data.content);
  const [isConflict, setConflict] = useState(false);
  const action = useAction();

  const change = (next: string) => {
    setText(next);
    setDraft({ text: next, key: null });
  };
  const leave = () => {
    setDraft(EMPTY);
    onDone();
  };
  const save = async () => {
    if (text.trim() === "" || action.busy) return;
    if (text === original.data.content) return leave();
    const saved = await action.run(async () => {
      try {
        await saveOriginal(api, collection, original, text);
      } catch (error) {
        if (!(error instanceof ApiError) || error.problem.status !== 412) throw error;
        await rereadOriginal(api, collection, original.blob_id);
        setConflict(true);
        throw error;
      }
    });
    if (saved) leave();
  };
  const byKey = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void save();
  };

  return (
    <div className="editor">
      {isConflict ? (
        <div className="problem problem--stacked" role="alert" data-testid="problem">
          <p>This was changed elsewhere while you were editing. The newer text is:</p>
          <blockquote className="prose" data-testid="entry-original">
            {original.data.content}
          </blockquote>
          <p>Yours is below. Save to replace the newer text, or cancel to keep it.</p>
        </div>
      ) : (
        <ProblemNote problem={action.problem} onRetry={() => void save()} />
      )}
      <textarea
        className="prose"
        aria-label="Original text"
        autoFocus
        rows={5}
        readOnly={action.busy}
        value={text}
        onChange={(event) => change(event.target.value)}
        onKeyDown={byKey}
      />
      <div className="editor__actions">
        <button
          type="button"
          className="button button--primary"
          disabled={text.trim() === "" || action.busy}
          onClick={() => void save()}
        >
          {isConflict ? "Save mine" : "Save"}
        </button>
        <button type="button" className="button" onClick={leave}>
          Cancel
        </button>
      </div>
    </div>
  );
}
