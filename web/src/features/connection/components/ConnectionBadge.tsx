/** Says quietly whether what is on the page is live. */
import { useSyncExternalStore } from "react";
import type { ConnectionState } from "../../../shared/live/connection";
import { useServices } from "../../../shared/services";

const WORDS: Record<ConnectionState, string> = {
  live: "Live",
  connecting: "Connecting…",
  offline: "Offline",
};

export function ConnectionBadge() {
  const { live } = useServices();
  const state = useSyncExternalStore(live.watch, live.currentState);
  return (
    <span className="connection">
      <span
        className="connection__state"
        role="status"
        data-testid="connection-state"
        data-state={state}
      >
        {WORDS[state]}
      </span>
      {state === "offline" && (
        <button type="button" className="link" onClick={live.reconnectNow}>
          Try now
        </button>
      )}
    </span>
  );
}
