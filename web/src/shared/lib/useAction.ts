/** Owns the state of one thing a user asked for: under way, failed with a problem, or neither. */
import { useCallback, useState } from "react";
import { type Problem, problemOf } from "../api/problem";

export interface Action {
  busy: boolean;
  problem: Problem | null;
  /** Runs the work; true if it succeeded, false if it left a problem to show. */
  run(work: () => Promise<void>): Promise<boolean>;
  dismiss(): void;
}

export function useAction(): Action {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const run = useCallback(async (work: () => Promise<void>) => {
    setBusy(true);
    setProblem(null);
    try {
      await work();
      return true;
    } catch (error) {
      setProblem(problemOf(error));
      return false;
    } finally {
      setBusy(false);
    }
  }, []);
  return { busy, problem, run, dismiss: useCallback(() => setProblem(null), []) };
}
