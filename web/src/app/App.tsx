/** The page: signed out it is the way in, signed in it is the studio. Builds the services. */
import { useEffect, useMemo, useSyncExternalStore } from "react";
import { AuthForm } from "../features/auth/components/AuthForm";
import { ApiClient, API_BASE } from "../shared/api/client";
import type { SessionStore } from "../shared/api/session";
import { LiveConnection } from "../shared/live/connection";
import { type Services, ServicesContext } from "../shared/services";
import { Studio } from "./Studio";

function liveUrl(): string {
  return `${location.origin.replace(/^http/, "ws")}${API_BASE}/ws`;
}

function buildServices(session: SessionStore): Services {
  const api = new ApiClient(session);
  const live = new LiveConnection(liveUrl(), session);
  // Heard before any collection, so that their fetches already ask without the old positions.
  live.listen({
    frame: () => undefined,
    resync: (resync) => {
      if (resync.kind === "lost") api.forgetPositions();
    },
  });
  return { api, live };
}

export function App({ session }: { session: SessionStore }) {
  const userId = useSyncExternalStore(session.subscribe, () => session.current()?.user_id ?? null);

  useEffect(() => {
    window.addEventListener("storage", session.reread);
    const stop = session.keepFresh();
    return () => {
      window.removeEventListener("storage", session.reread);
      stop();
    };
  }, [session]);

  return userId === null ? (
    <Welcome session={session} />
  ) : (
    <SignedIn key={userId} session={session} />
  );
}

function SignedIn({ session }: { session: SessionStore }) {
  const services = useMemo(() => buildServices(session), [session]);
  useEffect(() => services.live.open(), [services]);
  return (
    <ServicesContext value={services}>
      <Studio session={session} />
    </ServicesContext>
  );
}

function Welcome({ session }: { session: SessionStore }) {
  return (
    <main className="welcome">
      <div className="welcome__words">
        <p className="brand">ReYNa Studio</p>
        <h1>Drop a rough paragraph. Watch it grow.</h1>
        <p className="welcome__lead">
          Put a few unpolished lines in a bucket. Within seconds a fuller text stands beside them,
          written while you look on. Yours stays as you wrote it.
        </p>
        <figure className="sample" aria-label="An example">
          <p>rain. the last tram. two strangers, one umbrella</p>
          <p className="prose--growing">
            The rain had emptied the street long before the last tram turned the corner. Two people
            waited under one umbrella, and neither could have said whose it was
          </p>
        </figure>
      </div>
      <AuthForm session={session} />
    </main>
  );
}
