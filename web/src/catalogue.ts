import { $, icon, make } from "./dom";
import type { Room } from "./panels";
import { launch, type Application, type AppWindow, type SessionInfo } from "./seat";
import { why, words } from "./words";

/** A catalogue with more than so many applications can be searched. */
const searchable = 12;
/** A window that has not come by then is not waited for. */
const patience = 20_000;
/** When the last window has gone, what is typed so long was meant for it, or for the next one. */
const stillTyping = 5_000;

/**
 * The applications that can be started: a panel in the DESKTOP view; in the APP view, where there is no desktop, the home
 * screen, which is there whenever no window is.
 */
export class Catalogue {
  #home = document.getElementById("home"); // in the APP view only
  #list = $("apps");
  #search = $<HTMLInputElement>("apps-search");
  #applications: Application[] = [];
  #shown: string | undefined; // what the list was made of
  #starting = new Map<string, number>(); // applications whose window is waited for, and the timer that gives it up
  #windows: AppWindow[] | undefined;
  #deafUntil = 0; // on the page's clock
  #called = false; // the person has asked for the home screen; else it is there because no window is

  constructor(private room: Room) {
    this.#search.oninput = () => this.#filter();
    this.#list.addEventListener("keydown", (event) => this.#move(event));
    this.#list.addEventListener("keyup", (event) => {
      if (event.key === " " && (performance.now() < this.#deafUntil || this.#starting.size > 0)) event.preventDefault();
    });
    if (!this.#home) return;
    const home = this.#home;
    $("home-tool").onclick = () => (home.hidden ? this.open(true) : this.close());
    $("home-back").onclick = () => this.close();
    home.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    home.addEventListener("pointerdown", () => room.stage.toolbar.closePanels());
  }

  tell(info: SessionInfo): void {
    this.#applications = info.applications ?? [];
    const text = JSON.stringify(this.#applications);
    if (text === this.#shown) return;
    // The one that the session began with is on its way, so that its window is waited for instead of offering the rest.
    if (this.#shown === undefined && this.#home && info.application) this.#expect(info.application);
    this.#shown = text;
    this.#paint();
  }

  /** Takes up which windows there are (APP view). */
  follow(windows: AppWindow[]): void {
    const before = new Set(this.#windows?.map((w) => w.id));
    const came = windows.filter((w) => !before.has(w.id));
    const first = this.#windows === undefined;
    this.#windows = windows;
    for (const tile of this.#tiles()) tile.toggleAttribute("data-running", windows.some((w) => w.application === tile.dataset["name"]));
    if (came.length > 0 && this.#starting.size > 0 && (!first || this.#home?.hidden)) {
      // Which application a window belongs to is not always known.
      for (const name of [...this.#starting.keys()]) {
        if (came.some((w) => w.application === name || !w.application || w.active)) this.#arrived(name);
      }
      if (this.#starting.size === 0) this.close();
    }
    // A program's first picture often goes before its window comes, and the home screen was there meanwhile.
    if (came.length > 0 && !first && !this.#called) this.close();
    $("home-back").hidden = windows.length === 0;
    if (windows.length === 0 && this.#starting.size === 0) {
      if (before.size > 0) this.#deafUntil = performance.now() + stillTyping;
      this.open();
    }
  }

  /** Shows the home screen, until a window comes or, if the person has called it, until it is left. */
  open(called = false): void {
    if (!this.#home || !this.#home.hidden) return;
    this.#called = called;
    this.#home.hidden = false;
    $("home-tool").setAttribute("aria-pressed", "true");
    this.room.stage.toolbar.keep(true);
    // Whoever has a panel open is at something else; but of the windows there is none left.
    const panel = document.querySelector("dialog[open]");
    if (panel && !called && panel.id !== "windows") return;
    this.room.stage.toolbar.closePanels();
    this.#tiles()[0]?.focus({ preventScroll: true, focusVisible: false } as FocusOptions);
  }

  /** Goes from the home screen to the windows, if there are any. */
  close(): void {
    if (!this.#home || this.#home.hidden || (this.#windows?.length ?? 0) === 0) return;
    if (!document.querySelector("dialog[open]")) (document.activeElement as HTMLElement | null)?.blur();
    this.#home.hidden = true;
    $("home-tool").setAttribute("aria-pressed", "false");
    this.room.stage.toolbar.keep(false);
    this.room.stage.focus();
  }

  /** Gives the picture of an application, for a window of it. */
  picture(name: string | undefined): Node {
    const found = this.#applications.find((application) => application.name === name);
    return found ? picture(found) : make("span", { className: "picture" }, icon("windows"));
  }

  title(name: string | undefined): string | undefined {
    return this.#applications.find((application) => application.name === name)?.displayName;
  }

  async #launch(application: Application): Promise<void> {
    const { name, displayName } = application;
    if (this.#starting.has(name)) return;
    const running = this.#windows?.some((w) => w.application === name);
    this.#expect(name);
    try {
      await launch(name);
    } catch (error) {
      this.#arrived(name);
      this.room.notices.show("launch", { icon: "alert", tone: "bad", text: why(error), lasts: 9000 });
      return;
    }
    if (!this.#home) {
      this.#arrived(name);
      if ($<HTMLDialogElement>("applications").open) {
        this.room.stage.toolbar.closePanels();
        this.room.stage.focus();
      }
      this.room.notices.show("launch", { icon: "apps", tone: "good", text: words.applicationStarts(displayName), lasts: 4000 });
    } else if (running) {
      this.#arrived(name); // its window comes to the front
      this.close();
    }
  }

  #expect(name: string): void {
    const giveUp = () => {
      this.#arrived(name);
      if (this.#windows?.length === 0) this.open();
      if (this.#home) this.room.notices.show("launch", { icon: "clock", tone: "wait", text: words.slowApplication(this.title(name) ?? name), lasts: 9000 });
    };
    this.#starting.set(name, window.setTimeout(giveUp, patience));
    this.#mark();
  }

  #arrived(name: string): void {
    clearTimeout(this.#starting.get(name));
    this.#starting.delete(name);
    this.#mark();
  }

  #mark(): void {
    for (const tile of this.#tiles()) {
      const starting = this.#starting.has(tile.dataset["name"] ?? "");
      tile.toggleAttribute("data-starting", starting);
      tile.setAttribute("aria-busy", String(starting));
    }
    const names = [...this.#starting.keys()].map((name) => this.title(name) ?? name);
    $("apps-status").textContent = names.length > 0 ? words.applicationStarting(names) : "";
  }

  #paint(): void {
    this.#list.replaceChildren(
      ...this.#applications.map((application, n) => {
        const name = make("bdi", { className: "app-name" }, application.displayName || application.name);
        const tile = make("button", { type: "button", className: "app", tabIndex: n === 0 ? 0 : -1, onclick: () => void this.#launch(application) },
          picture(application), name);
        tile.dataset["name"] = application.name;
        return make("li", {}, tile);
      }),
    );
    $("apps-find").hidden = this.#applications.length <= searchable;
    $("apps-none").hidden = this.#applications.length > 0;
    $("apps-none").textContent = words.noApplications;
    this.#mark();
  }

  #filter(): void {
    const parts = plain(this.#search.value).split(/\s+/).filter(Boolean);
    let found = 0;
    for (const tile of this.#tiles()) {
      const text = plain(`${tile.textContent} ${tile.dataset["name"]}`);
      const fits = parts.every((part) => text.includes(part));
      (tile.parentElement as HTMLElement).hidden = !fits;
      tile.tabIndex = fits && found++ === 0 ? 0 : -1;
    }
    $("apps-none").hidden = found > 0;
    $("apps-none").textContent = words.nothingFound(this.#search.value.trim());
  }

  #tiles(): HTMLButtonElement[] {
    return [...this.#list.querySelectorAll<HTMLButtonElement>(".app")];
  }

  /** Goes about the tiles by keys: as they lie, to the ends, and by their first letters. */
  #move(event: KeyboardEvent): void {
    const tiles = this.#tiles().filter((tile) => !tile.parentElement?.hidden);
    const at = tiles.indexOf(document.activeElement as HTMLButtonElement);
    if (at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const deaf = performance.now() < this.#deafUntil;
    if ((event.key.length === 1 && (deaf || this.#starting.size > 0)) || (event.key === "Enter" && deaf)) {
      event.preventDefault(); // what is meant for a program must not start another
      return;
    }
    const row = tiles.filter((tile) => tile.offsetTop === tiles[0]?.offsetTop).length;
    const to: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + row, ArrowUp: at - row, Home: 0, End: tiles.length - 1 };
    let next = tiles[to[event.key] ?? -1];
    if (!next && event.key === "ArrowUp" && !$("apps-find").hidden) {
      this.#search.focus();
    } else if (!next && event.key.length === 1 && event.key !== " ") {
      next = [...tiles.slice(at + 1), ...tiles.slice(0, at + 1)].find((tile) => plain(tile.textContent ?? "").startsWith(plain(event.key)));
    }
    if (to[event.key] !== undefined) event.preventDefault();
    if (!next) return;
    for (const tile of tiles) tile.tabIndex = tile === next ? 0 : -1;
    next.focus();
  }
}

/** Writes a text as it is compared: without case and accents. */
const plain = (text: string) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLocaleLowerCase();

/** Makes the picture of an application: its icon, or its first letter in a colour of its own. */
function picture(application: Application): HTMLElement {
  const frame = make("span", { className: "picture" });
  const letter = () => {
    frame.textContent = [...(application.displayName || application.name)][0]?.toLocaleUpperCase() ?? "";
    frame.classList.add("letter");
    let hue = 0;
    for (const char of application.name) hue = (hue * 31 + (char.codePointAt(0) ?? 0)) % 360;
    frame.style.setProperty("--hue", String(hue));
  };
  if (application.icon) frame.append(make("img", { src: application.icon, alt: "", draggable: false, onerror: letter }));
  else letter();
  return frame;
}
