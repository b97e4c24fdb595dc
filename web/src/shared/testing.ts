/** Owns what the unit tests stand on: a real HTTP server and a storage in memory. */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { KeyValue, Tokens } from "./api/session";

export interface Reply {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

export interface Origin {
  base: string;
  close(): Promise<void>;
}

async function read(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  return text === "" ? null : (JSON.parse(text) as unknown);
}

/** Serves `answer` on a free port of loopback. */
export async function serve(
  answer: (request: IncomingMessage, body: unknown) => Reply | Promise<Reply>,
): Promise<Origin> {
  const server = createServer(async (request, response) => {
    const { status, body, headers } = await answer(request, await read(request));
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  };
  return { base: `http://127.0.0.1:${port}`, close };
}

export class MemoryStorage implements KeyValue {
  private readonly items = new Map<string, string>();

  getItem(key: string): string | null {
    return this.items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.items.set(key, value);
  }

  removeItem(key: string): void {
    this.items.delete(key);
  }
}

/** The n-th tokens of a user, good for as many seconds. */
export function tokens(n: number, seconds = 900): Tokens {
  return {
    user_id: "u1",
    access_token: `access-${n}`,
    refresh_token: `refresh-${n}`,
    expires_at: new Date(Date.now() + seconds * 1000).toISOString(),
  };
}
