/** Asks before something is removed. Native dialog: it traps the focus and gives it back. */
import { type ReactNode, useEffect, useId, useRef } from "react";
import type { Problem } from "../api/problem";
import { ProblemNote } from "./ProblemNote";

export function ConfirmDialog(props: {
  title: string;
  children: ReactNode;
  confirm: string;
  busy: boolean;
  problem: Problem | null;
  onConfirm: () => void;
  onCancel: () => void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  const body = useId();
  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);

  return (
    <dialog
      ref={dialog}
      className="dialog"
      aria-labelledby={title}
      aria-describedby={body}
      onCancel={(event) => {
        event.preventDefault();
        props.onCancel();
      }}
    >
      <h2 id={title}>{props.title}</h2>
      <p id={body}>{props.children}</p>
      <ProblemNote problem={props.problem} />
      <div className="dialog__actions">
        <button type="button" className="button" onClick={props.onCancel}>
          Cancel
        </button>
        <button
          type="button"
          className="button button--danger"
          disabled={props.busy}
          onClick={props.onConfirm}
        >
          {props.confirm}
        </button>
      </div>
    </dialog>
  );
}
