import { $ } from "./dom";
import type { Screen } from "./screen";

/** A touch keyboard that finds nothing to delete does not tell of its backspace, so that there is always something. */
const filling = "_".repeat(64);

/** How much the page grows when a touch keyboard leaves, in pixels; address bars are smaller. */
const leaves = 120;

/**
 * The text field behind the desktop, which has the keyboard while one works there. A canvas cannot have an input method, or raise
 * a touch keyboard: what they write comes into the field and is typed from there. Keys that are only keys go past it, to noVNC,
 * which keeps them from writing here.
 */
export class Typing {
  #field = $<HTMLTextAreaElement>("typing");
  #draft = $("typing-draft");
  #button = $<HTMLButtonElement>("typing-raise");
  #screen: Screen | null = null;
  #gone = new AbortController();
  #touch = matchMedia("(any-pointer: coarse)").matches;
  #at = [innerWidth / 2, innerHeight / 2];
  #lowest = Infinity; // the least height of the page since the touch keyboard was raised

  constructor() {
    const field = this.#field;
    this.#empty();
    // Before noVNC's own listener: the event is the input method's, and what it makes of it comes as text.
    field.addEventListener("keydown", (event) => isText(event) && event.stopImmediatePropagation());
    field.addEventListener("input", (event) => (event as InputEvent).isComposing || this.#flush());
    field.addEventListener("compositionupdate", (event) => this.#show(event.data));
    field.addEventListener("compositionend", () => {
      this.#show("");
      this.#flush();
    });
    // Where one works is where the input method shows its choices, and what a touch keyboard must not cover.
    $("desktop").addEventListener("pointerdown", ({ clientX, clientY }) => this.#place(clientX, clientY), { capture: true });

    if (!this.#touch) return;
    field.inputMode = "none"; // touching the desktop is no wish to write
    const button = this.#button;
    button.hidden = false;
    button.addEventListener("mousedown", (event) => event.preventDefault()); // or the keyboard leaves with the focus before the click
    button.onclick = () => this.#raise(button.getAttribute("aria-pressed") !== "true");
    field.addEventListener("blur", () => this.#mark(false));
    visualViewport?.addEventListener("resize", () => {
      const height = visualViewport?.height ?? 0;
      this.#lowest = Math.min(this.#lowest, height);
      if (height > this.#lowest + leaves) this.#mark(false); // it was sent away by its own key
    });
  }

  attach(screen: Screen): void {
    this.#gone.abort();
    this.#gone = new AbortController();
    this.#screen = screen;
    this.#empty();
  }

  /** Has the touch keyboard come, or go. Browsers look at the field's mode when it gets the focus. */
  #raise(on: boolean): void {
    document.querySelector<HTMLDialogElement>("dialog.panel[open]")?.close();
    this.#field.blur();
    this.#mark(on);
    this.#field.focus({ preventScroll: true });
  }

  #mark(on: boolean): void {
    this.#field.inputMode = on ? "text" : "none";
    this.#button.setAttribute("aria-pressed", String(on));
    this.#lowest = Infinity;
  }

  /** Puts the field to a point, but never out of the desktop, also when that becomes lower: browsers would scroll to it. */
  #place(x: number, y: number): void {
    this.#at = [x, y];
    this.#field.style.left = `min(${x}px, 100% - 2px)`;
    this.#field.style.top = `min(${y}px, 100% - 24px)`;
  }

  /** Shows what is being composed, which the program does not have yet. */
  #show(text: string): void {
    this.#draft.textContent = text;
    this.#draft.hidden = text === "";
    const [x, y] = this.#at;
    this.#draft.style.left = `min(${x}px, 100% - ${this.#draft.offsetWidth + 8}px)`;
    this.#draft.style.top = `clamp(${this.#draft.offsetHeight + 4}px, ${y}px, 100% - 4px)`;
  }

  /** Types what has become of the field since it was last empty: first what is missing, then what is there. */
  #flush(): void {
    const before = this.#touch ? filling : "";
    const now = this.#field.value;
    let same = 0;
    while (same < before.length && before[same] === now[same]) same++;
    this.#empty();
    for (let n = same; n < before.length; n++) this.#screen?.sendKey(0xff08, "Backspace");
    void this.#screen?.type(now.slice(same), this.#gone.signal);
  }

  #empty(): void {
    const value = this.#touch ? filling : "";
    if (this.#field.value === value) return;
    this.#field.value = value;
    this.#field.setSelectionRange(value.length, value.length);
  }
}

/** Tells whether an event is part of a text to come, rather than a key: 229 stands for those of input methods. */
const isText = (event: KeyboardEvent) => event.isComposing || event.keyCode === 229 || ["Process", "Dead", "Unidentified"].includes(event.key);
