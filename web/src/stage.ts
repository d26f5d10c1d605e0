import type { Clipboard } from "./clipboard";
import type { End } from "./channel";
import { $, pause } from "./dom";
import type { Display } from "./display";
import { brief, number } from "./form";
import type { Refusal } from "./info";
import type { Screen } from "./screen";
import type { Toolbar } from "./toolbar";
import { ghost, show, type Action } from "./veil";
import { why, words } from "./words";

/**
 * What the viewer shows: an image builder (builder.ts), an app block builder (packager.ts) or a session (session.ts). Each has a script of its own, which the page
 * brings in before the viewer's.
 */
export interface Subject {
  /** Whether the person is going, so that the end of the stream is no surprise. */
  readonly leaving: boolean;
  /** Called when a stream shows its first picture. */
  shown(): void;
  /** Called with what the server has to say beside the picture. */
  notice(notice: unknown): void;
  /** Finds out what became of the stream and waits until there can be one again; false when there cannot. */
  recover(end: End, attempt: number): Promise<boolean>;
}

/** What the viewer lends to its subject. */
export class Stage {
  /** What lies over the desktop while there is none. */
  readonly show = show;
  /** The last picture of the desktop behind it. */
  readonly ghost = ghost;
  readonly again: Action = { text: words.tryAgain, run: () => location.reload() };

  constructor(
    /** As the person calls it. */
    readonly name: string,
    readonly toolbar: Toolbar,
    readonly clipboard: Clipboard,
    readonly display: Display,
    /** The display, while there is one. */
    readonly screen: () => Screen | null,
    /** Gives the keyboard back to the desktop. */
    readonly focus: () => void,
  ) {}

  /** Sets the light that stands for a state. */
  light(state: string): void {
    $("dot").dataset["state"] = state;
  }

  /** Shows the reason why there is nothing to come back to. */
  over(refusal: Refusal): void {
    const [title, text = ""] = why(refusal).split(/(?<=[.]) (.*)/s);
    const icon = { deleted: "trash", expired: "clock", session: "clock" }[refusal.code] ?? "alert";
    show("ended", {
      icon: icon as "trash", tone: icon === "alert" ? "bad" : "calm", title: (title ?? "").replace(/\.$/, ""), text,
      ...(icon === "alert" && { action: this.again }),
    });
  }

  /** Waits longer with each attempt, says so, and goes on at once when asked to or when the network is back. */
  async countdown(attempt: number): Promise<void> {
    const skip = new AbortController();
    const wait = Math.min(5_000, 300 * 2 ** attempt) * (0.85 + 0.3 * Math.random());
    const until = performance.now() + wait;
    const text = () => {
      const seconds = Math.ceil((until - performance.now()) / 1000);
      if (!navigator.onLine) return words.offline;
      return attempt < 2 ? words.connectionLost : words.nextAttempt(brief(seconds), number(attempt + 1));
    };
    const paint = () =>
      show("reconnecting", {
        icon: "spinner", tone: "wait", title: words.reconnecting, text: text(),
        ...(attempt >= 2 && { action: { text: words.reconnectNow, run: () => skip.abort() } }),
      });
    paint();
    const timer = setInterval(paint, 1000);
    const online = () => skip.abort();
    addEventListener("online", online);
    await pause(wait, skip.signal);
    removeEventListener("online", online);
    clearInterval(timer);
  }
}
