import RFB from "@novnc/novnc";
import type { Channel } from "./channel";

/** How the desktop is put into the window. */
export type Fit =
  /** The desktop takes the window's size. */
  | "window"
  /** The desktop keeps its size and is scaled to the window. */
  | "scale"
  /** One pixel of the desktop is one of the page; what does not fit is scrolled to. */
  | "actual";

/** The smallest desktop that is asked for: the windows of most programs fit into it. A smaller window, of a phone for example, has it scaled. */
const least = { width: 640, height: 480 };

/** noVNC's display, with three things it has not: an event for frames, a desktop as fine as the screen, and a field for text. */
export class Screen extends RFB {
  #fine = false;
  #asking = false;
  #seen = false;
  #gone = new AbortController();

  /** The field (typing.ts) has the keyboard in place of noVNC's canvas. */
  constructor(target: HTMLElement, private channel: Channel, private field: HTMLElement) {
    super(target, channel, { shared: true });
    this._keyboard._target = field; // before noVNC listens there, once it is connected
    this._canvas.role = "img"; // for whom the field does not come first: fingers that feel for what is there
    this._canvas.setAttribute("aria-labelledby", "desktop-name");
    this._canvas.setAttribute("aria-describedby", "way-out");
    this._cursor._canvas.ariaHidden = "true";
    this.background = "transparent";
    this.qualityLevel = 8; // from here on colours are not subsampled, which text needs
    this.compressionLevel = 2;
    // Whoever goes from the desktop to the toolbar by keys lets go of them there; the desktop must not think they are held.
    target.addEventListener("focusout", () => this._keyboard._allKeysUp(), { signal: this.#gone.signal });
    this.addEventListener("disconnect", () => this.#gone.abort());
  }

  override focus(options?: FocusOptions): void {
    this.field.focus(options);
  }

  /** Ends the stream, without waiting for a server that may not answer. */
  override disconnect(): void {
    super.disconnect();
    this.channel.abandon();
  }

  /** Sets how the desktop fits; fine asks for one pixel of the desktop for each pixel of the screen. */
  arrange(fit: Fit, fine: boolean): void {
    this.#fine = fine;
    this.scaleViewport = fit !== "actual"; // with "window" it bridges the time until the desktop has the new size
    this.resizeSession = fit === "window";
    if (fit === "window") this._requestRemoteResize();
  }

  /** Lets the desktop know that someone is there, by a mouse that moves and comes back. */
  stir(): void {
    const { x = 0, y = 0 } = this._mousePos;
    this._handleMouseMove(x + 1, y);
    this._handleMouseMove(x, y);
  }

  /** Presses and releases keys: all down in order, then up in reverse. */
  press(...keys: Key[]): void {
    for (const [keysym, code] of keys) this.sendKey(keysym, code, true);
    for (const [keysym, code] of keys.reverse()) this.sendKey(keysym, code, false);
  }

  /** Types a text as if on a keyboard, a few characters at a time so that the desktop can follow. */
  async type(text: string, signal: AbortSignal): Promise<void> {
    let n = 0;
    for (const char of text.replace(/\r\n?/g, "\n")) {
      if (signal.aborted) return;
      this.sendKey(keysymOf(char), null);
      if (++n % 8 === 0) await new Promise((resolve) => setTimeout(resolve, 15));
    }
  }

  override _framebufferUpdate(): boolean {
    const whole = super._framebufferUpdate();
    if (whole && !this.#seen) {
      this.#seen = true;
      requestAnimationFrame(() => this.dispatchEvent(new Event("firstframe")));
    }
    return whole;
  }

  override _requestRemoteResize(): void {
    this.#asking = true;
    super._requestRemoteResize();
    this.#asking = false;
  }

  override _screenSize(): { w: number; h: number } {
    const { w, h } = super._screenSize();
    if (!this.#asking) return { w, h };
    const scale = Math.max(this.#fine ? window.devicePixelRatio : 1, least.width / w, least.height / h);
    return { w: Math.round(w * scale), h: Math.round(h * scale) };
  }
}

/** A key: its X keysym, and the physical key for displays that know keys rather than symbols. */
export type Key = readonly [keysym: number, code: string | null];

export const keys = {
  control: [0xffe3, "ControlLeft"],
  alt: [0xffe9, "AltLeft"],
  shift: [0xffe1, "ShiftLeft"],
  super: [0xffeb, "MetaLeft"],
  delete: [0xffff, "Delete"],
  tab: [0xff09, "Tab"],
  escape: [0xff1b, "Escape"],
  print: [0xff61, "PrintScreen"],
  f: (n: number): Key => [0xffbd + n, `F${n}`],
} as const;

/** The keysym of a character: Latin-1 is itself, a few controls have keys, all others are Unicode with a mark. */
function keysymOf(char: string): number {
  const point = char.codePointAt(0) ?? 0;
  switch (true) {
    case char === "\n":
      return 0xff0d;
    case char === "\t":
      return 0xff09;
    case (point >= 0x20 && point <= 0x7e) || (point >= 0xa0 && point <= 0xff):
      return point;
  }
  return 0x01000000 + point;
}
