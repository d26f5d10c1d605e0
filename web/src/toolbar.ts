import { $, memory } from "./dom";

/**
 * The toolbar: comes when the pointer is at the top edge or the keyboard goes there, and leaves by itself. For Tab it is one stop, as toolbars are; the arrow keys go
 * about in it.
 */
export class Toolbar {
  #edge = $("edge");
  #bar = $("bar");
  #grip = $<HTMLButtonElement>("grip");
  #pin = $<HTMLInputElement>("pin");
  #timer = 0;
  #kept = false;

  /** back gives the keyboard back to the desktop. */
  constructor(private back: () => void) {
    this.#pin.checked = memory.get("pin") === "yes";
    this.#pin.onchange = () => {
      memory.set("pin", this.#pin.checked ? "yes" : "no");
      this.rest();
    };
    this.#edge.addEventListener("pointerover", (event) => {
      if (event.pointerType !== "touch") this.show(); // a finger taps
    });
    this.#edge.addEventListener("pointerleave", () => this.rest());
    this.#edge.addEventListener("focusin", () => this.show());
    this.#edge.addEventListener("focusout", () => this.rest());
    this.#grip.onclick = () => this.rest(5000);
    // The grip goes when the toolbar comes, and the mouse that browsers make of a touch would press what lies under it.
    this.#grip.addEventListener("touchend", (event) => {
      event.preventDefault();
      this.rest(5000);
    });
    // What is to be seen under the toolbar leaves it room: it has as many rows as the window makes it have.
    new ResizeObserver(() => {
      this.#edge.parentElement?.style.setProperty("--bar", `${this.#bar.offsetTop + this.#bar.offsetHeight}px`);
      this.#place();
    }).observe(this.#bar);
    addEventListener("resize", () => this.#place());

    for (const tool of this.#bar.querySelectorAll<HTMLButtonElement>("[data-panel]")) {
      const panel = $<HTMLDialogElement>(tool.dataset["panel"] ?? "");
      panel.tabIndex = -1; // it can have the focus when nothing is left in it that could
      tool.onclick = () => (panel.open ? panel.close() : this.open(panel, tool));
      panel.addEventListener("close", () => {
        tool.setAttribute("aria-expanded", "false");
        this.rest();
      });
      panel.addEventListener("keydown", (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        panel.close();
        tool.focus();
      });
    }
    this.#bar.addEventListener("keydown", (event) => this.#move(event));
    this.#bar.addEventListener("focusin", (event) => this.#stop(event.target as HTMLElement));
    this.#stop(this.#tools()[0]);
    // A press on the desktop closes what is open and goes on to the desktop.
    $("desktop").addEventListener("pointerdown", () => {
      this.closePanels();
      this.hide();
    }, { capture: true });
    addEventListener("keydown", (event) => {
      if (event.code === "KeyM" && event.ctrlKey && event.altKey && event.shiftKey) {
        event.preventDefault();
        event.stopImmediatePropagation();
        this.focus();
      }
    }, { capture: true });
  }

  show(): void {
    clearTimeout(this.#timer);
    this.#edge.dataset["shown"] = "true";
    this.#grip.setAttribute("aria-expanded", "true");
  }

  /** Has the toolbar stay while there is nothing below it that it could cover. */
  keep(on: boolean): void {
    this.#kept = on;
    if (on) this.show();
    else this.rest(2000);
  }

  /** Lets the toolbar leave after a while, unless it is in use. */
  rest(after = 1200): void {
    clearTimeout(this.#timer);
    this.show();
    this.#timer = window.setTimeout(() => this.hide(), after);
  }

  hide(): void {
    clearTimeout(this.#timer);
    const hovered = matchMedia("(hover: hover)").matches && this.#edge.matches(":hover"); // a finger leaves a hover where it was last
    const used = hovered || this.#bar.contains(document.activeElement) || document.querySelector("dialog[open]");
    if (this.#pin.checked || this.#kept || used) return;
    this.#edge.dataset["shown"] = "false";
    delete this.#edge.dataset["greeting"];
    this.#grip.setAttribute("aria-expanded", "false");
  }

  /** Shows the toolbar at the beginning, with the way that leads to it from the desktop, which has all other keys. */
  greet(): void {
    this.#edge.dataset["greeting"] = "true";
    this.rest(5000);
  }

  focus(): void {
    this.show();
    this.#tools()[0]?.focus();
  }

  open(panel: HTMLDialogElement, tool: HTMLButtonElement): void {
    this.closePanels();
    panel.show();
    tool.setAttribute("aria-expanded", "true");
    this.#place();
  }

  /** Puts the open panel below its button, as far as the window lets it be. */
  #place(): void {
    const panel = document.querySelector<HTMLDialogElement>("dialog.panel[open]");
    const box = panel && document.querySelector(`[data-panel=${panel.id}]`)?.getBoundingClientRect();
    if (!box) return;
    const half = panel.offsetWidth / 2 + 8;
    panel.style.top = `${this.#bar.getBoundingClientRect().bottom + 10}px`; // the toolbar has two rows in a narrow window
    panel.style.maxHeight = `calc(100dvh - ${this.#bar.getBoundingClientRect().bottom + 20}px)`;
    panel.style.left = `${Math.max(half, Math.min(innerWidth - half, box.left + box.width / 2))}px`;
  }

  closePanels(): void {
    for (const panel of document.querySelectorAll<HTMLDialogElement>("dialog.panel[open]")) panel.close();
  }

  #tools(): HTMLButtonElement[] {
    return [...this.#bar.querySelectorAll<HTMLButtonElement>("button:not([hidden])")];
  }

  /** Makes a tool the one that Tab stops at. */
  #stop(here: HTMLElement | undefined): void {
    for (const tool of this.#bar.querySelectorAll("button")) tool.tabIndex = tool === here ? 0 : -1;
  }

  #move(event: KeyboardEvent): void {
    const tools = this.#tools();
    const at = tools.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tools.length - 1 }[event.key];
    if (to !== undefined) {
      tools.at(to % tools.length)?.focus();
      event.preventDefault();
    } else if (event.key === "Escape") {
      this.back();
      this.hide();
    }
  }
}
