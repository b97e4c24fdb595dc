/**
 * Owns how the page speaks HTTP to the API: bearer token, problems, reading one's own writes.
 * Which paths there are, and what they answer, is each feature's own.
 */
import { ApiError, parseProblem } from "./problem";
import type { SessionStore } from "./session";

export const API_BASE = "/api/v1";
const TIMEOUT_MS = 30_000;

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export interface Answer<T> {
  body: T;
  /** Position in the log: of the last event written, or of the view that was read. */
  seq: number;
}

export interface Command {
  method: "POST" | "PATCH" | "PUT" | "DELETE";
  path: string;
  body?: unknown;
  idempotencyKey?: string;
  /** The seq the resource must still be at. */
  ifMatch?: number;
}

async function readBody(answer: Response): Promise<unknown> {
  const content = await answer.text();
  if (content === "") return null;
  try {
    return JSON.parse(content) as unknown;
  } catch (error) {
    // A proxy in front may answer an error in HTML; its status still tells what to say.
    if (error instanceof SyntaxError && !answer.ok) return null;
    throw error;
  }
}

/**
 * One exchange without a session.
 * @throws ApiError, TypeError (unreachable), DOMException (timeout)
 */
export async function exchange<T>(
  base: string,
  path: string,
  init: { method: string; headers?: Record<string, string>; body?: unknown },
): Promise<Answer<T>> {
  const headers = { Accept: "application/json", ...init.headers };
  const hasBody = init.body !== undefined;
  const answer = await fetch(base + path, {
    method: init.method,
    headers: hasBody ? { "Content-Type": "application/json", ...headers } : headers,
    body: hasBody ? JSON.stringify(init.body) : null,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const body = await readBody(answer);
  if (!answer.ok) {
    throw new ApiError(parseProblem(answer.status, body, answer.headers.get("Retry-After")));
  }
  return { body: body as T, seq: Number(answer.headers.get("Reyna-Seq") ?? 0) || 0 };
}

export class ApiClient {
  private written = 0;
  private readonly session: SessionStore;
  private readonly base: string;

  constructor(session: SessionStore, base: string = API_BASE) {
    this.session = session;
    this.base = base;
  }

  /** Reads a view that has reached every write made here, and `minSeq`. */
  async query<T>(path: string, minSeq = 0): Promise<Answer<T>> {
    const reached = Math.max(this.written, minSeq);
    const headers: Record<string, string> = reached > 0 ? { "Reyna-Min-Seq": `${reached}` } : {};
    return this.authorized<T>(path, { method: "GET", headers });
  }

  /** Sends a command and remembers how far later queries must have read. */
  async command<T>(command: Command): Promise<Answer<T>> {
    const headers: Record<string, string> = {};
    if (command.idempotencyKey) headers["Idempotency-Key"] = command.idempotencyKey;
    if (command.ifMatch !== undefined) headers["If-Match"] = `"${command.ifMatch}"`;
    const { method, path, body } = command;
    const answer = await this.authorized<T>(path, { method, headers, body });
    this.written = Math.max(this.written, answer.seq);
    return answer;
  }

  /** The log was replaced: positions of the old one mean nothing in the new. */
  forgetPositions(): void {
    this.written = 0;
  }

  private async authorized<T>(
    path: string,
    init: { method: string; headers: Record<string, string>; body?: unknown },
  ): Promise<Answer<T>> {
    const send = (token: string) =>
      exchange<T>(this.base, path, {
        ...init,
        headers: { ...init.headers, Authorization: `Bearer ${token}` },
      });
    const token = await this.session.token();
    try {
      return await send(token);
    } catch (error) {
      if (!(error instanceof ApiError) || error.problem.status !== 401) throw error;
      return send(await this.session.renew(token));
    }
  }
}
