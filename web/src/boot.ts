// The first script of the viewer: opens the stream's WebSocket while the rest of the page is still on its way. It is small and
// comes before everything else.
import { Channel } from "./channel";

export interface Boot {
  /** Opens a channel to the stream of this page. */
  open(): Channel;
  /** The one that is open already. */
  first: Channel;
}

declare global {
  interface Window {
    oriel: Boot;
  }
}

const open = () => new Channel(location.href.replace(/^http/, "ws").replace(/[?#].*$/, "") + "/ws");
window.oriel = { open, first: open() };
