/** A quiet banner with the processor's advice, such as which model writes the expansions. */
import { useEffect, useState, useSyncExternalStore } from "react";
import { problemOf } from "../../../shared/api/problem";
import { useServices } from "../../../shared/services";
import { fetchAdvice } from "../api/processors";

export function ModelNotice() {
  const { api, live } = useServices();
  const isOffline = useSyncExternalStore(live.watch, live.currentState) === "offline";
  const [advice, setAdvice] = useState<string | null>(null);

  useEffect(() => {
    // Asked again when the server is back: it may run another model now.
    if (isOffline) return;
    let current = true;
    fetchAdvice(api).then(
      (answer) => current && setAdvice(answer),
      (error: unknown) => {
        // Only advice: the lists say that the server is in trouble, and what was known stays.
        problemOf(error);
      },
    );
    return () => {
      current = false;
    };
  }, [api, isOffline]);

  if (advice === null) return null;
  return (
    <p className="notice" role="note" data-testid="model-notice">
      {advice}
    </p>
  );
}
