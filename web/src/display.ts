import { $, memory } from "./dom";
import type { Fit, Screen } from "./screen";
import { words } from "./words";

/** The panel for how the desktop is shown, and fullscreen. */
export class Display {
  #screen: Screen | null = null;
  #fine = $<HTMLInputElement>("fine");
  #fits = [...document.querySelectorAll<HTMLInputElement>("input[name=fit]")];
  #fullscreen = $<HTMLButtonElement>("fullscreen");

  constructor() {
    const fit = memory.get("fit");
    for (const radio of this.#fits) {
      if (fit) radio.checked = radio.value === fit;
      radio.onchange = () => this.#apply();
    }
    this.#fine.checked = memory.get("fine") === "yes";
    this.#fine.onchange = () => this.#apply();

    this.#fullscreen.hidden = !document.fullscreenEnabled;
    this.#fullscreen.onclick = () => void this.#toggle();
    document.addEventListener("fullscreenchange", () => {
      const full = document.fullscreenElement !== null;
      this.#fullscreen.setAttribute("aria-pressed", String(full));
      this.#fullscreen.dataset["tip"] = full ? words.leaveFullscreen : words.fullscreen;
    });
    // The page comes again in the language that is chosen, in place of this one in the history.
    for (const link of document.querySelectorAll<HTMLAnchorElement>(".languages a")) {
      link.onclick = (event) => {
        event.preventDefault();
        location.replace(link.href);
      };
    }
    this.#watchDensity();
  }

  attach(screen: Screen): void {
    this.#screen = screen;
    this.#apply();
  }

  /** Shows what is known about the machine or the session; rows without a value are left out. */
  details(rows: [string, string | undefined][]): void {
    $("details").replaceChildren(
      ...rows.flatMap(([name, value]) => {
        if (!value) return [];
        const dt = document.createElement("dt");
        const dd = document.createElement("dd");
        dt.textContent = name;
        dd.textContent = value;
        return [dt, dd];
      }),
    );
  }

  #apply(): void {
    const fit = (this.#fits.find((radio) => radio.checked)?.value ?? "window") as Fit;
    memory.set("fit", fit);
    memory.set("fine", this.#fine.checked ? "yes" : "no");
    $("fine-row").hidden = fit !== "window" || window.devicePixelRatio === 1;
    this.#screen?.arrange(fit, this.#fine.checked);
  }

  async #toggle(): Promise<void> {
    if (document.fullscreenElement) {
      await document.exitFullscreen();
      return;
    }
    try {
      await document.documentElement.requestFullscreen({ navigationUI: "hide" });
      // With all keys: Alt+Tab and the like go to the desktop; holding Esc leaves. Not every browser has it.
      const keyboard = (navigator as { keyboard?: { lock?: () => Promise<void> } }).keyboard;
      await keyboard?.lock?.();
    } catch {
      // Then not.
    }
    this.#screen?.focus();
  }

  /** Follows the window to another screen, or another zoom. */
  #watchDensity(): void {
    matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`).addEventListener(
      "change",
      () => {
        this.#apply();
        this.#watchDensity();
      },
      { once: true },
    );
  }
}
