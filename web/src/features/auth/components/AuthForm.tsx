/** The sign-up and sign-in form: the same two fields, one switch between them. */
import { type FormEvent, useId, useState } from "react";
import type { SessionStore } from "../../../shared/api/session";
import { useAction } from "../../../shared/lib/useAction";
import { ProblemNote } from "../../../shared/ui/ProblemNote";
import { signIn, signUp } from "../api/auth";
import "./auth.css";

export function AuthForm({ session }: { session: SessionStore }) {
  const [isNew, setIsNew] = useState(false);
  const [identifier, setIdentifier] = useState("");
  const [password, setPassword] = useState("");
  const [name, setName] = useState("");
  const action = useAction();
  const id = useId();

  const submit = (event: FormEvent) => {
    event.preventDefault();
    const enter = isNew ? signUp : signIn;
    void action.run(() => enter(session, { identifier, password, name }));
  };
  const switchMode = () => {
    setIsNew(!isNew);
    action.dismiss();
  };

  return (
    <form
      className="auth"
      onSubmit={submit}
      data-testid="auth-form"
      aria-labelledby={`${id}-title`}
    >
      <h2 id={`${id}-title`}>{isNew ? "Create your account" : "Sign in"}</h2>
      {session.hasExpired() && (
        <p className="quiet">You were signed out. What you had typed is still there.</p>
      )}
      <div className="field">
        <label htmlFor={`${id}-identifier`}>Email or phone</label>
        <input
          id={`${id}-identifier`}
          data-testid="auth-identifier"
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          required
          value={identifier}
          onChange={(event) => setIdentifier(event.target.value)}
        />
      </div>
      <div className="field">
        <label htmlFor={`${id}-password`}>Password</label>
        <input
          id={`${id}-password`}
          data-testid="auth-password"
          type="password"
          autoComplete={isNew ? "new-password" : "current-password"}
          required
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
      </div>
      {isNew && (
        <div className="field">
          <label htmlFor={`${id}-name`}>
            Name <span className="quiet">(optional)</span>
          </label>
          <input
            id={`${id}-name`}
            autoComplete="name"
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
        </div>
      )}
      <ProblemNote problem={action.problem} />
      <button
        className="button button--primary auth__submit"
        data-testid="auth-submit"
        disabled={action.busy}
      >
        {action.busy ? "One moment…" : isNew ? "Sign up" : "Sign in"}
      </button>
      <p className="auth__switch">
        {isNew ? "Already have an account?" : "New here?"}{" "}
        <button type="button" className="link" data-testid="auth-switch" onClick={switchMode}>
          {isNew ? "Sign in" : "Create an account"}
        </button>
      </p>
    </form>
  );
}
