// The first script of the viewer: opens the stream's WebSocket while the rest of the page is still on its way. It is small and
// comes before everything else.
import { Channel } from "./channel";
import type { Stage, Subject } from "./stage";
import type { Words } from "./words/en";

export interface Boot {
  /** Opens a channel to the stream of this page. */
  open(): Channel;
  /** The one that is open already. */
  first: Channel;
  /** What this page shows; its script sets it. */
  subject: (stage: Stage) => Subject;
  /** What people read here; the script of the page's language sets it. */
  words: Words;
}

declare global {
  interface Window {
    oriel: Boot;
  }
}

/** A session may take this computer's time zone; whether it does is the server's to say. */
const zone = () =>
  document.documentElement.dataset["kind"] === "session" ? `?tz=${encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone ?? "")}` : "";

const open = () => new Channel(`${location.href.replace(/^http/, "ws").replace(/[?#].*$/, "")}/ws${zone()}`);
window.oriel = { open, first: open() } as Boot;

// Without one of its scripts the page would say for ever that it connects. It is loaded again as soon as the server answers.
const again = async (address: string): Promise<void> => {
  for (let answers = false; !answers; ) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    answers = await fetch(address, { cache: "reload" }).then(() => true, () => false);
  }
  location.reload();
};
addEventListener("error", ({ target }) => target instanceof HTMLScriptElement && void again(target.src), { capture: true, once: true });
