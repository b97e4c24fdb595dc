/** Owns what the page reads about the text-expansion processor itself. */
import type { ApiClient } from "../../../shared/api/client";
import { ApiError } from "../../../shared/api/problem";

/** What an operator should know or do about the processor's model; null if there is nothing. */
export async function fetchAdvice(api: ApiClient): Promise<string | null> {
  try {
    const { body } = await api.query<{ advice?: string | null }>("/processors/text-expansion");
    return body.advice?.trim() || null;
  } catch (error) {
    if (error instanceof ApiError && error.problem.status === 404) return null;
    throw error;
  }
}
