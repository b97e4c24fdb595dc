/** Owns the calls that need no session: signing up, in and out. */
import { API_BASE, exchange } from "../../../shared/api/client";
import { problemOf } from "../../../shared/api/problem";
import type { SessionStore, Tokens } from "../../../shared/api/session";

export interface Credentials {
  /** An email address or a phone number. */
  identifier: string;
  password: string;
  name?: string;
}

/** An `@` makes an email address; anything else is a phone number, without its ornaments. */
export function identify(identifier: string): { email: string } | { phone: string } {
  const value = identifier.trim();
  return value.includes("@") ? { email: value } : { phone: value.replace(/[\s()./-]/g, "") };
}

async function grant(session: SessionStore, path: string, who: Credentials): Promise<void> {
  const name = who.name?.trim();
  const body = {
    ...identify(who.identifier),
    password: who.password,
    ...(name ? { name } : {}),
  };
  const { body: tokens } = await exchange<Tokens>(API_BASE, path, { method: "POST", body });
  session.begin(tokens, who.identifier.trim());
}

export function signUp(session: SessionStore, who: Credentials): Promise<void> {
  return grant(session, "/auth/register", who);
}

export function signIn(session: SessionStore, who: Credentials): Promise<void> {
  const { identifier, password } = who;
  return grant(session, "/auth/login", { identifier, password });
}

/** Spends the refresh token; the session ends here even if the server cannot be told. */
export async function signOut(session: SessionStore): Promise<void> {
  const refresh_token = session.current()?.refresh_token;
  session.end();
  if (refresh_token === undefined) return;
  try {
    await exchange(API_BASE, "/auth/logout", { method: "POST", body: { refresh_token } });
  } catch (error) {
    // Signed out here all the same; a token the server was not told of expires by itself.
    problemOf(error);
  }
}
