/**
 * Owns the one WebSocket: authentication, the subscription, liveness, reconnecting with backoff.
 * It hands on frames and says when views must be read again; what they mean is the collections'.
 */
import type { SessionStore } from "../api/session";
import { LogCursor, type Resync } from "./cursor";
import { type Frame, isContent, isProgress, parseFrame, type ServerFrame } from "./frames";

export type ConnectionState = "connecting" | "live" | "offline";

export interface LiveListener {
  frame(frame: Frame): void;
  resync(resync: Resync): void;
}

/** What a collection needs of the connection. */
export interface LiveSource {
  listen(listener: LiveListener): () => void;
}

const PING_MS = 25_000;
const SILENCE_MS = 40_000;
const LONGEST_WAIT_MS = 30_000;
const NOT_AUTHENTICATED = 4401;
const SUBSCRIBE_REF = "subscribe";

/** Exponential, with jitter so that clients of a restarted server do not come back at once. */
export function backoff(attempt: number, random: number): number {
  return Math.min(LONGEST_WAIT_MS, 500 * 2 ** attempt) * (0.5 + random / 2);
}

export class LiveConnection implements LiveSource {
  private socket: WebSocket | null = null;
  /** What the socket was opened with: a 4401 may be about it though a newer one is known. */
  private openedWith = "";
  private attempt = 0;
  private closed = true;
  private lastHeard = 0;
  private state: ConnectionState = "connecting";
  private retry: ReturnType<typeof setTimeout> | undefined;
  private pinger: ReturnType<typeof setInterval> | undefined;
  private readonly cursor = new LogCursor();
  private readonly listeners = new Set<LiveListener>();
  private readonly watchers = new Set<() => void>();
  private readonly url: string;
  private readonly session: SessionStore;

  constructor(url: string, session: SessionStore) {
    this.url = url;
    this.session = session;
  }

  readonly currentState = (): ConnectionState => this.state;

  readonly watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  };

  listen(listener: LiveListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Connects and stays connected until the returned function is called. */
  open(): () => void {
    this.closed = false;
    const unsubscribe = this.session.subscribe(() => this.passOnToken());
    window.addEventListener("online", this.reconnectNow);
    void this.connect();
    return () => {
      this.closed = true;
      unsubscribe();
      window.removeEventListener("online", this.reconnectNow);
      clearTimeout(this.retry);
      this.drop();
    };
  }

  readonly reconnectNow = (): void => {
    if (this.socket !== null || this.closed) return;
    clearTimeout(this.retry);
    void this.connect();
  };

  private async connect(): Promise<void> {
    try {
      this.openedWith = await this.session.token();
    } catch {
      // Signed out: the page shows the sign-in form. Unreachable: the next attempt tells.
      if (this.session.current() !== null) this.connectLater();
      return;
    }
    if (this.closed || this.socket !== null) return;
    const socket = new WebSocket(this.url, ["reyna.v1", `bearer.${this.openedWith}`]);
    this.socket = socket;
    this.lastHeard = Date.now();
    // Also bounds how long a handshake may take.
    this.pinger = setInterval(() => this.checkAlive(), PING_MS);
    socket.onopen = () => {
      this.passOnToken();
      const request = { action: "subscribe", buckets: "*", ref: SUBSCRIBE_REF };
      this.send({ ...request, ...this.cursor.request() });
    };
    socket.onmessage = (message) => {
      this.lastHeard = Date.now();
      const frame = parseFrame(message.data);
      if (frame !== null) this.receive(frame);
    };
    socket.onclose = (event) => void this.lost(event.code);
  }

  private receive(frame: ServerFrame): void {
    if (isContent(frame)) {
      if (isProgress(frame) || this.cursor.accept(frame)) {
        for (const listener of [...this.listeners]) listener.frame(frame);
      }
    } else if (frame.type === "subscribed") {
      this.attempt = 0;
      this.setState("live");
      const resync = this.cursor.subscribed(frame);
      for (const listener of [...this.listeners]) listener.resync(resync);
    } else if (frame.type === "live") {
      this.cursor.caughtUp(frame.seq);
    } else if (frame.type === "error" && frame.ref === SUBSCRIBE_REF) {
      // The server does not take our cursor; without one it must.
      this.cursor.forget();
      void this.lost(0);
    }
  }

  private async lost(code: number): Promise<void> {
    this.drop();
    if (this.closed) return;
    if (code === NOT_AUTHENTICATED) {
      try {
        await this.session.renew(this.openedWith);
      } catch {
        if (this.session.current() === null) return;
      }
    }
    this.connectLater();
  }

  private connectLater(): void {
    if (this.closed || this.socket !== null) return;
    // A first blip is not worth a word; after that the page says it is offline.
    this.setState(this.attempt > 0 ? "offline" : "connecting");
    clearTimeout(this.retry);
    this.retry = setTimeout(() => void this.connect(), backoff(this.attempt, Math.random()));
    this.attempt += 1;
  }

  private checkAlive(): void {
    if (Date.now() - this.lastHeard > SILENCE_MS) void this.lost(0);
    else this.send({ action: "ping" });
  }

  private passOnToken(): void {
    const token = this.session.current()?.access_token;
    if (token === undefined || token === this.openedWith) return;
    this.send({ action: "authenticate", token, ref: "authenticate" });
  }

  private send(action: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(action));
  }

  private drop(): void {
    clearInterval(this.pinger);
    const socket = this.socket;
    this.socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  private setState(state: ConnectionState): void {
    if (state === this.state) return;
    this.state = state;
    for (const watcher of [...this.watchers]) watcher();
  }
}
