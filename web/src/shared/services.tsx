/** Owns how features reach the API and the live connection: one context, filled by the app. */
import { createContext, useContext } from "react";
import type { ApiClient } from "./api/client";
import type { LiveConnection } from "./live/connection";

export interface Services {
  api: ApiClient;
  live: LiveConnection;
}

export const ServicesContext = createContext<Services | null>(null);

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (services === null) throw new Error("useServices needs a ServicesContext above it");
  return services;
}
