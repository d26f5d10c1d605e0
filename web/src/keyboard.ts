import { $ } from "./dom";
import { keys, type Key, type Screen } from "./screen";

/** The panel with keys that the browser or the system keeps for itself. */
export class Keyboard {
  #screen: Screen | null = null;
  #held = new Map<HTMLButtonElement, Key>();
  #typing = new AbortController();

  constructor() {
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-keys]")) {
      const combo = (button.dataset["keys"] ?? "").split(" ").map(named);
      button.onclick = () => {
        this.#screen?.press(...combo);
        this.#release();
      };
    }
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-hold]")) {
      const key = named(button.dataset["hold"] ?? "");
      button.onclick = () => (this.#held.has(button) ? this.#let(button) : this.#hold(button, key));
    }
    $<HTMLFormElement>("type").onsubmit = (event) => {
      event.preventDefault();
      const field = $<HTMLTextAreaElement>("type-text");
      this.#typing.abort();
      this.#typing = new AbortController();
      void this.#screen?.type(field.value, this.#typing.signal);
      field.value = "";
    };
  }

  attach(screen: Screen): void {
    this.#typing.abort();
    this.#screen = screen;
    for (const button of this.#held.keys()) button.setAttribute("aria-pressed", "false");
    this.#held.clear();
  }

  #hold(button: HTMLButtonElement, key: Key): void {
    this.#held.set(button, key);
    this.#screen?.sendKey(key[0], key[1], true);
    button.setAttribute("aria-pressed", "true");
  }

  #let(button: HTMLButtonElement): void {
    const key = this.#held.get(button);
    if (key) this.#screen?.sendKey(key[0], key[1], false);
    this.#held.delete(button);
    button.setAttribute("aria-pressed", "false");
  }

  #release(): void {
    for (const button of [...this.#held.keys()]) this.#let(button);
  }
}

function named(name: string): Key {
  const f = /^f(\d+)$/.exec(name);
  if (f) return keys.f(Number(f[1]));
  const key = keys[name as Exclude<keyof typeof keys, "f">];
  if (!key) throw new Error(`there is no key ${name}`);
  return key;
}
