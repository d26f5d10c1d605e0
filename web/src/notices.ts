import { $, icon, make } from "./dom";
import { clock } from "./form";
import { words } from "./words";

/** A message at the lower edge, which does not stop the work. */
export interface Slip {
  icon: string;
  tone?: "calm" | "wait" | "good" | "bad";
  text: string;
  /** What a machine said, in English. */
  quote?: string;
  /** A time that is counted down to, of performance.now(). The slip goes when it is reached. */
  until?: number;
  /** What it says after the countdown. */
  after?: string;
  action?: { text: string; run?: () => void; href?: string };
  /** Something ends if nobody does anything: screen readers say it at once. */
  urgent?: boolean;
  /** For so long it is shown, in milliseconds; without it until it is dropped or dismissed. */
  lasts?: number;
}

/** How many slips there are at a time; the oldest goes first. */
const most = 4;

/** The messages at the lower edge. Screen readers say them when they come. */
export class Notices {
  #shown = new Map<string, HTMLElement>();

  /** back gives the keyboard back to the desktop. */
  constructor(private back: () => void) {}

  /** Shows a slip. One of the same name is replaced. */
  show(name: string, slip: Slip): void {
    this.drop(name);
    const oldest = this.#shown.keys().next();
    if (this.#shown.size >= most && !oldest.done) this.drop(oldest.value);

    const text = make("p", {}, make("bdi", {}, slip.text));
    const item = make("div", { className: "slip" }, make("span", { className: "slip-icon" }, icon(slip.icon)), text);
    item.dataset["tone"] = slip.tone ?? "calm";
    item.dataset["slip"] = name;
    if (slip.quote) text.append(" ", make("bdi", { lang: "en" }, slip.quote));
    if (slip.until !== undefined) {
      const time = make("span", { className: "countdown" });
      time.setAttribute("aria-hidden", "true"); // or it would be said every second
      const left = make("span", { className: "unseen" }, clock(Math.ceil((slip.until - performance.now()) / 1000)));
      text.append(" ", time, left, slip.after ? ` ${slip.after}` : "");
      this.#count(item, name, time, slip.until);
    }
    if (slip.action) item.append(this.#action(name, slip.action));
    const close = make("button", { type: "button", className: "tool", onclick: () => this.#close(name) }, icon("close"));
    close.setAttribute("aria-label", words.dismiss);
    item.append(close);
    this.#shown.set(name, item);
    $(slip.urgent ? "alarms" : "slips").append(item);
    if (slip.lasts) setTimeout(() => this.#shown.get(name) === item && !item.matches(":hover, :focus-within") && this.drop(name), slip.lasts);
  }

  /** Takes a slip away. */
  drop(name: string): void {
    this.#shown.get(name)?.remove();
    this.#shown.delete(name);
  }

  has(name: string): boolean {
    return this.#shown.has(name);
  }

  /** Takes a slip away that was pressed, and the keyboard with it. */
  #close(name: string): void {
    this.drop(name);
    this.back();
  }

  #action(name: string, { text, run, href }: NonNullable<Slip["action"]>): HTMLElement {
    const done = () => (run?.(), this.#close(name));
    if (href) return make("a", { className: "button", href, download: "", textContent: text, onclick: () => void setTimeout(done) });
    return make("button", { className: "button", type: "button", textContent: text, onclick: done });
  }

  #count(item: HTMLElement, name: string, time: HTMLElement, until: number): void {
    const paint = () => {
      const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      time.textContent = clock(left);
      if (left === 0) this.drop(name);
      return left > 0 && this.#shown.get(name) === item;
    };
    time.textContent = clock(Math.max(0, Math.ceil((until - performance.now()) / 1000)));
    const timer = setInterval(() => paint() || clearInterval(timer), 1000);
  }
}
