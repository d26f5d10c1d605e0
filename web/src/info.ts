/** What the gateway tells of a builder (info.go, appblockbuilder.go). */
export interface Info {
  version: string;
  name: string;
  arn: string;
  state: string;
  reason?: string;
  baseImage: string;
  platform: string;
  instanceType: string;
  agent: string;
  address?: string;
  streams: boolean;
  expires: string;
  image?: ImageInfo;
  /** Of an app block builder: a package is being made. */
  packaging?: boolean;
  appBlock?: { name: string; state: string; package?: string };
}

export interface ImageInfo {
  name: string;
  state: string;
  reason?: string;
}

export interface Application {
  name: string;
  displayName: string;
  icon?: string;
}

/** A refusal of the gateway, with a message for people if it had one (words.ts). */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field?: string,
  ) {
    super(message);
  }
}

/** The address of the stream's page, which everything of the stream is below. */
export const base = location.pathname.replace(/\/$/, "");

/**
 * Asks what is known about the builder. With after, the answer comes when the version is another one, or after a while. image names
 * an image to be told of too. Errors: Refusal; TypeError when the server cannot be reached.
 */
export async function getInfo(options: { after?: string; image?: string; signal?: AbortSignal } = {}): Promise<Info> {
  const query = new URLSearchParams();
  if (options.after) query.set("after", options.after);
  if (options.image) query.set("image", options.image);
  return (await call(`info?${query}`, options.signal ? { signal: options.signal } : {})) as Info;
}

/** Asks for the catalogue that an image would have. Errors as getInfo. */
export async function getApplications(): Promise<Application[]> {
  return ((await call("applications", {})) as { applications: Application[] }).applications;
}

export interface NewImage {
  name: string;
  displayName: string;
  description: string;
  useLatestAgentVersion: boolean;
}

/** Has an image made. Errors as getInfo. */
export async function createImage(image: NewImage): Promise<void> {
  await call("image", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(image) });
}

/** Has the package of an app block made. Errors as getInfo. */
export async function createPackage(): Promise<void> {
  await call("package", { method: "POST" });
}

/** Ends the session. It must not fail: the page goes away. */
export async function signOut(): Promise<void> {
  await call("disconnect", { method: "POST", keepalive: true }).catch(() => undefined);
}

/** Asks the gateway for something below base. Errors as getInfo. */
export async function call(path: string, init: RequestInit = {}): Promise<unknown> {
  const response = await fetch(`${base}/${path}`, { cache: "no-store", ...init });
  if (response.status === 204) return undefined;
  const body: unknown = await response.json().catch(() => undefined);
  if (response.ok && body !== undefined) return body;
  throw refusal(response.status, body);
}

/** Makes the refusal of an answer's status and body. */
export function refusal(status: number, body: unknown): Refusal {
  const problem = (body ?? {}) as { code?: string; message?: string; field?: string };
  return new Refusal(status, problem.code ?? "fault", problem.message ?? "", problem.field);
}
