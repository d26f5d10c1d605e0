// What the gateway tells of a session and does for its person, as JSON below the stream's address.
import { base, call } from "./info";

/** What is known about the session. */
export interface SessionInfo {
  version: string;
  kind: "session";
  state: "PENDING" | "ACTIVE" | "EXPIRED";
  stack: string;
  fleet: string;
  user: string;
  view: "DESKTOP" | "APP";
  /** The application that was started with the session, if any. */
  application?: string;
  /** EXPIRED: why. */
  endCode?: EndCode;
  reason?: string;
  /** When this browser's right to the session ends. */
  expires: string;
  /** When the session ends in any case. */
  maxEnd: string;
  /** How long the session is kept without a browser, in seconds. */
  awaySeconds?: number;
  /** What went wrong beside: a session script that failed, say. */
  notes?: string[];
  /** After how long without keyboard and mouse the browser is disconnected, in seconds; 0 for never. */
  idleSeconds: number;
  redirectURL?: string;
  feedbackURL?: string;
  portal?: string; // where its person began it: a path
  rules: Rules;
  applications: Application[] | null;
  streams: boolean;
}

export type EndCode = "user" | "admin" | "away" | "duration" | "fleet" | "instance" | "start";

/** What the stack allows. The gateway enforces it; the page only does not offer what would be refused. */
export interface Rules {
  copyIn: boolean;
  copyOut: boolean;
  /** Characters at a time; 0 for no limit of the stack. */
  copyInMax: number;
  copyOutMax: number;
  upload: boolean;
  download: boolean;
  print: boolean;
  timeZone: boolean;
}

export interface Application {
  name: string;
  displayName: string;
  icon?: string;
}

/** What the server says beside the picture. */
export type Notice =
  | { notice: "ending" | "idle"; in: number }
  | { notice: "active" }
  | { notice: "clipboard"; direction: "in" | "out"; reason: "disabled" | "length"; max?: number };

export interface Windows {
  version: string;
  windows: AppWindow[] | null;
}

export interface AppWindow {
  id: number;
  title: string;
  /** The catalogue's name of its application, when it is known. */
  application?: string;
  class?: string;
  active?: boolean;
}

export interface Folder {
  path: string;
  files: File[] | null;
  more?: boolean;
  free: number;
}

export interface File {
  name: string;
  folder?: boolean;
  size: number;
  modified: string;
}

export interface Prints {
  version: string;
  prints: Print[] | null;
}

export interface Print {
  id: string;
  title: string;
  size: number;
  printed: string;
}

// Every function's errors are those of getInfo. With after, an answer comes when the version is another one, or after a while.

export const getSession = (after?: string, signal?: AbortSignal) => news<SessionInfo>("info", after, signal);
export const getWindows = (after?: string, signal?: AbortSignal) => news<Windows>("windows", after, signal);
export const getPrints = (after?: string, signal?: AbortSignal) => news<Prints>("prints", after, signal);

export const endSession = () => call("end", { method: "POST" });
export const launch = (application: string) => call("launch", json("POST", { application }));
export const actOnWindow = (id: number, action: "activate" | "close") => call(`windows/${id}`, json("POST", { action }));

export const getFolder = (path: string, signal?: AbortSignal) => call(`folders/${escaped(path)}`, signal ? { signal } : {}) as Promise<Folder>;
export const makeFolder = (path: string) => call(`folders/${escaped(path)}`, { method: "PUT" });
export const removeFile = (path: string) => call(`files/${escaped(path)}`, { method: "DELETE" });
export const fileAddress = (path: string) => `${base}/files/${escaped(path)}`;

export const removePrint = (id: string) => call(`prints/${encodeURIComponent(id)}`, { method: "DELETE" });
export const printAddress = (id: string) => `${base}/prints/${encodeURIComponent(id)}`;

export const soundAddress = () => `${location.origin.replace(/^http/, "ws")}${base}/sound`;

const json = (method: string, body: unknown): RequestInit => ({ method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
const escaped = (path: string) => path.split("/").map(encodeURIComponent).join("/");

async function news<T>(what: string, after?: string, signal?: AbortSignal): Promise<T> {
  const late = AbortSignal.timeout(after ? 40_000 : 10_000);
  const query = after ? `?${new URLSearchParams({ after })}` : "";
  return (await call(what + query, { signal: signal ? AbortSignal.any([signal, late]) : late })) as T;
}
