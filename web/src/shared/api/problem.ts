/**
 * Owns what went wrong with a call: RFC 9457 problems read tolerantly, and put in plain words.
 * Where a problem is shown is up to the feature that made the call.
 */

export interface FieldError {
  /** JSON Pointer into the request's body, such as `/data/content`. */
  path: string;
  message: string;
}

export interface Problem {
  /** HTTP status; 0 when no answer came. */
  status: number;
  title: string;
  detail: string;
  errors: FieldError[];
}

export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.name = "ApiError";
    this.problem = problem;
  }
}

const SENTENCES: Record<number, string> = {
  400: "The server did not understand this request.",
  401: "Please sign in again.",
  403: "You are not allowed to do this.",
  404: "This is not there any more.",
  409: "This clashes with something that changed meanwhile.",
  412: "This was changed elsewhere meanwhile.",
  413: "This is too large.",
  422: "The server did not accept this input.",
  429: "Too many requests just now.",
  503: "The server cannot do this just now.",
};

function fallback(status: number): string {
  return SENTENCES[status] ?? "Something went wrong on the server.";
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  return typeof value === "string" ? value.trim() : "";
}

function fieldErrors(value: unknown): FieldError[] {
  if (!Array.isArray(value)) return [];
  return value.filter(isRecord).flatMap((error) => {
    const message = text(error["message"]);
    return message ? [{ path: text(error["path"]), message }] : [];
  });
}

/** Reads an error answer's body, whatever it is, as a problem. */
export function parseProblem(status: number, body: unknown, retryAfter?: string | null): Problem {
  const fields = isRecord(body) ? body : {};
  const seconds = Number(retryAfter ?? Number.NaN);
  const wait = seconds > 0 ? ` Try again in ${Math.ceil(seconds)} s.` : "";
  return {
    status,
    title: text(fields["title"]) || fallback(status),
    detail: (text(fields["detail"]) || fallback(status)) + wait,
    errors: fieldErrors(fields["errors"]),
  };
}

/** A failed call's error as a problem. @throws the error itself if it is not from a call. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  // fetch reports an unreachable server as TypeError and a timeout as DOMException.
  if (error instanceof TypeError || error instanceof DOMException) {
    return {
      status: 0,
      title: "The server cannot be reached",
      detail: "The server cannot be reached. Nothing you typed is lost.",
      errors: [],
    };
  }
  throw error;
}

/** One field error as a sentence: `/data/content` becomes `Content: …`. */
export function describeField(error: FieldError): string {
  const name = error.path.split("/").at(-1)?.replaceAll("~1", "/").replaceAll("~0", "~") ?? "";
  if (!name) return error.message;
  const words = name.replaceAll("_", " ");
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}: ${error.message}`;
}
