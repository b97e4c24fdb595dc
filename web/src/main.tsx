/** Starts the page. */
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { API_BASE } from "./shared/api/client";
import { SessionStore } from "./shared/api/session";
import "./app/base.css";
import "./app/studio.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");
const session = new SessionStore(localStorage, API_BASE, navigator.locks);

createRoot(root).render(
  <StrictMode>
    <App session={session} />
  </StrictMode>,
);
