import { pause } from "./dom";
import { Refusal } from "./info";

/** An answer that is another one when its version is. */
interface Versioned {
  version: string;
}

/**
 * Asks for news again and again. It rests while the page cannot be seen: a browser has few connections to one server, and
 * there may be many pages.
 */
export class Watch<T extends Versioned> {
  #running: AbortController | null = null;
  #after: string | undefined;

  constructor(
    private get: (after: string | undefined, signal: AbortSignal) => Promise<T>,
    private tell: (news: T) => void,
  ) {}

  start(): void {
    if (this.#running) return;
    this.#running = new AbortController();
    void this.#run(this.#running.signal);
  }

  /** Ends the watch. The next one begins with what there is then. */
  stop(): void {
    this.#running?.abort();
    this.#running = null;
    this.#after = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    for (let wait = 1000; !signal.aborted; ) {
      await visible(signal);
      if (signal.aborted) return;
      const turn = new AbortController();
      const rest = () => document.hidden && turn.abort();
      document.addEventListener("visibilitychange", rest);
      const began = performance.now();
      try {
        const news = await this.get(this.#after, AbortSignal.any([signal, turn.signal]));
        if (signal.aborted) return;
        wait = 1000;
        if (news.version !== this.#after) {
          this.#after = news.version;
          this.tell(news);
        } else if (performance.now() - began < 1000) {
          await pause(1000, signal); // the server does not wait just now
        }
      } catch (error) {
        if (signal.aborted || turn.signal.aborted) continue;
        if (error instanceof Refusal && [401, 403, 404, 410].includes(error.status)) wait = 30_000;
        await pause(wait, signal);
        wait = Math.min(wait * 2, 30_000);
      } finally {
        document.removeEventListener("visibilitychange", rest);
      }
    }
  }
}

/** Waits until the page can be seen. */
function visible(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
  });
}
