/**
 * Owns who is signed in: the tokens, their storage and their renewal.
 *
 * A refresh token is spent on use, so a renewal happens once: one flight inside a tab, one lock
 * between tabs, and the stored session is read again before a token is spent. The screens that
 * obtain the first tokens are the auth feature's.
 */
import { ApiError, parseProblem } from "./problem";

export interface Tokens {
  user_id: string;
  access_token: string;
  refresh_token: string;
  /** When the access token expires, RFC 3339. */
  expires_at: string;
}

export interface Session extends Tokens {
  /** What the user signed in with, to show. */
  label: string;
  /** When to renew by this machine's clock, ms; null if its clock cannot be trusted. */
  renew_at: number | null;
}

export type KeyValue = Pick<Storage, "getItem" | "setItem" | "removeItem">;
type Locks = Pick<LockManager, "request">;

const KEY = "reyna.session";
const RENEW_BEFORE_MS = 60_000;
const LONGEST_TIMER_MS = 2_000_000_000;
const RETRY_RENEWAL_MS = 15_000;
const TIMEOUT_MS = 20_000;
/** How long after a write other tabs may still read the old value: they are other processes. */
const STORAGE_LAG_MS = 200;

/** Thrown when a call needs a session and there is none (any more). */
export class SignedOut extends ApiError {
  constructor() {
    super(parseProblem(401, null));
    this.name = "SignedOut";
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function renewalTime(expiresAt: string, now: number): number | null {
  const lifetime = Date.parse(expiresAt) - now;
  if (!(lifetime > 0)) return null;
  return now + lifetime - Math.min(RENEW_BEFORE_MS, lifetime / 4);
}

function readSession(stored: string | null): Session | null {
  if (stored === null) return null;
  try {
    const value = JSON.parse(stored) as Partial<Session> | null;
    const whole =
      typeof value?.access_token === "string" &&
      typeof value.refresh_token === "string" &&
      typeof value.user_id === "string";
    return whole ? ({ label: "", renew_at: null, expires_at: "", ...value } as Session) : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

export class SessionStore {
  private session: Session | null;
  private wasRefused = false;
  private flight: Promise<Session> | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly listeners = new Set<() => void>();
  private readonly storage: KeyValue;
  private readonly base: string;
  private readonly locks: Locks | undefined;

  constructor(storage: KeyValue, base: string, locks?: Locks) {
    this.storage = storage;
    this.base = base;
    this.locks = locks;
    this.session = readSession(storage.getItem(KEY));
  }

  readonly current = (): Session | null => this.session;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Whether the last session ended because the server no longer took its refresh token. */
  hasExpired(): boolean {
    return this.wasRefused;
  }

  /** Starts a session with newly granted tokens. */
  begin(tokens: Tokens, label: string): Session {
    const session = { ...tokens, label, renew_at: renewalTime(tokens.expires_at, Date.now()) };
    this.storage.setItem(KEY, JSON.stringify(session));
    this.wasRefused = false;
    this.adopt(session);
    return session;
  }

  /** Forgets the session here and, through the storage, in other tabs. */
  end(): void {
    this.storage.removeItem(KEY);
    this.adopt(null);
  }

  /** Takes over what another tab stored; call it on the window's `storage` event. */
  readonly reread = (): void => {
    const stored = readSession(this.storage.getItem(KEY));
    if (stored?.access_token !== this.session?.access_token) this.adopt(stored);
  };

  /** An access token that is not about to expire. @throws SignedOut, ApiError, TypeError */
  async token(): Promise<string> {
    if (this.session === null) throw new SignedOut();
    const { access_token, renew_at } = this.session;
    return renew_at !== null && Date.now() >= renew_at ? this.renew(access_token) : access_token;
  }

  /** A newer access token than `spent`. @throws SignedOut, ApiError, TypeError */
  async renew(spent: string): Promise<string> {
    this.flight ??= this.locked(() => this.refresh(spent)).finally(() => {
      this.flight = null;
    });
    return (await this.flight).access_token;
  }

  /** Renews ahead of expiry for as long as the page is open; returns how to stop. */
  keepFresh(): () => void {
    const stop = this.subscribe(() => this.schedule());
    this.schedule();
    return () => {
      stop();
      clearTimeout(this.timer);
    };
  }

  private schedule(delay = (this.session?.renew_at ?? 0) - Date.now()): void {
    clearTimeout(this.timer);
    if (this.session === null || this.session.renew_at === null) return;
    const wait = Math.min(Math.max(delay, 0), LONGEST_TIMER_MS);
    this.timer = setTimeout(() => {
      // A refusal ends the session, which the page shows; anything else is worth another try.
      this.token().then(
        () => this.schedule(),
        () => this.schedule(RETRY_RENEWAL_MS),
      );
    }, wait);
  }

  private locked(work: () => Promise<Session>): Promise<Session> {
    const { locks } = this;
    // Web locks exist only in secure contexts; on plain http a refusal rereads the storage instead.
    if (locks === undefined) return work();
    return new Promise((resolve, reject) => {
      void locks.request("reyna.refresh", async () => {
        await work().then(resolve, reject);
        // The next tab must read what was stored here, or it would spend the same token again.
        await pause(STORAGE_LAG_MS);
      });
    });
  }

  private async refresh(spent: string): Promise<Session> {
    const before = readSession(this.storage.getItem(KEY));
    if (before === null) return this.refused();
    if (before.access_token !== spent) return this.adopt(before);

    const answer = await fetch(`${this.base}/auth/refresh`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ refresh_token: before.refresh_token }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (answer.ok) return this.begin((await answer.json()) as Tokens, before.label);
    if (answer.status === 429 || answer.status >= 500) {
      throw new ApiError(parseProblem(answer.status, null, answer.headers.get("Retry-After")));
    }
    await pause(STORAGE_LAG_MS);
    const after = readSession(this.storage.getItem(KEY));
    const renewedElsewhere = after !== null && after.access_token !== spent;
    return renewedElsewhere ? this.adopt(after) : this.refused();
  }

  private refused(): never {
    this.wasRefused = true;
    this.end();
    throw new SignedOut();
  }

  private adopt<S extends Session | null>(session: S): S {
    this.session = session;
    for (const listener of [...this.listeners]) listener();
    return session;
  }
}
