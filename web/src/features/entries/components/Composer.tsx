/** Where a rough paragraph is dropped. What is typed stays until the server has acknowledged it. */
import { type FormEvent, type KeyboardEvent, useId } from "react";
import { EMPTY, settleDraft, useDraft } from "../../../shared/lib/draft";
import { newKey } from "../../../shared/lib/ids";
import { useAction } from "../../../shared/lib/useAction";
import { useServices } from "../../../shared/services";
import { ProblemNote } from "../../../shared/ui/ProblemNote";
import { createOriginal } from "../api/commands";
import type { EntryCollection } from "../api/queries";

const isApple = /Mac|iP(hone|ad|od)/.test(navigator.userAgent);

/** Must be keyed by the bucket, whose draft it holds. */
export function Composer({
  bucketId,
  collection,
}: {
  bucketId: string;
  collection: EntryCollection;
}) {
  const { api } = useServices();
  const draftName = `reyna.draft.${bucketId}`;
  const [draft, setDraft] = useDraft(draftName);
  const action = useAction();
  const id = useId();
  const isEmpty = draft.text.trim() === "";

  const send = async () => {
    if (isEmpty || action.busy) return;
    const sent = { text: draft.text, key: draft.key ?? newKey() };
    setDraft(sent);
    const done = await action.run(async () => {
      await createOriginal(api, collection, bucketId, { content: sent.text.trim(), key: sent.key });
      // In the storage too: the page may show another bucket by now.
      settleDraft(draftName, sent.text);
    });
    if (done) setDraft(EMPTY);
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void send();
  };
  const sendByKey = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    void send();
  };

  return (
    <form className="composer" onSubmit={submit}>
      <label className="visually-hidden" htmlFor={id}>
        A rough paragraph
      </label>
      <textarea
        id={id}
        className="prose"
        data-testid="composer-text"
        placeholder="Drop a rough paragraph…"
        rows={4}
        readOnly={action.busy}
        value={draft.text}
        onChange={(event) => setDraft({ text: event.target.value, key: null })}
        onKeyDown={sendByKey}
      />
      <ProblemNote problem={action.problem} onRetry={() => void send()} />
      <div className="composer__foot">
        <span className="quiet composer__hint">{isApple ? "⌘ Enter" : "Ctrl + Enter"}</span>
        <button
          className="button button--primary"
          data-testid="composer-submit"
          disabled={isEmpty || action.busy}
        >
          {action.busy ? "Sending…" : "Expand"}
        </button>
      </div>
    </form>
  );
}
