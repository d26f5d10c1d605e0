import type { Catalogue } from "./catalogue";
import { $, make, pause, released, tool } from "./dom";
import { number } from "./form";
import type { Room } from "./panels";
import { actOnWindow, getWindows, type AppWindow, type SessionInfo } from "./seat";
import { Watch } from "./watch";
import { why, words } from "./words";

/** A window that was asked to close and is there for so long has something to say, in milliseconds. */
const patience = 1_200;

/** The panel with the windows of the session: to switch between them, and to close them. */
export class WindowList {
  #panel = $<HTMLDialogElement>("windows");
  #watch = new Watch(getWindows, (news) => this.#take(news.windows ?? []));
  #always = false; // not only while the panel is open
  #live = false;
  #windows: AppWindow[] = [];

  constructor(private room: Room, private catalogue: Catalogue) {
    // The panel opens by its attribute, whoever opens it.
    new MutationObserver(() => this.#follow()).observe(this.#panel, { attributes: true, attributeFilter: ["open"] });
  }

  tell(info: SessionInfo): void {
    this.#always = info.view === "APP"; // there the catalogue comes and goes with the windows
    this.#follow();
  }

  resume(): void {
    this.#live = true;
    this.#follow();
  }

  rest(): void {
    this.#live = false;
    this.#follow();
  }

  #follow(): void {
    if (this.#live && (this.#always || this.#panel.open)) this.#watch.start();
    else this.#watch.stop();
  }

  #take(windows: AppWindow[]): void {
    this.#windows = windows;
    if (this.#always) this.catalogue.follow(windows);
    const count = $("windows-count");
    count.textContent = number(windows.length);
    count.hidden = !this.#always || windows.length === 0;
    $("windows-none").hidden = windows.length > 0;
    void this.#paint(windows);
  }

  async #paint(windows: AppWindow[]): Promise<void> {
    await released($("windows-list"));
    if (windows !== this.#windows) return; // there are newer ones
    const focused = (document.activeElement as HTMLElement | null)?.closest<HTMLElement>("#windows-list [data-window]")?.dataset["window"];
    $("windows-list").replaceChildren(...windows.map((w) => this.#row(w)));
    if (focused) (document.querySelector<HTMLElement>(`[data-window="${focused}"] button`) ?? $("windows-list").querySelector("button") ?? this.#panel).focus();
  }

  #row(w: AppWindow): HTMLElement {
    const title = w.title || this.catalogue.title(w.application) || w.class || words.window;
    const name = this.catalogue.title(w.application);
    const text = make("span", { className: "row-text" }, make("bdi", {}, title));
    if (name && name !== title) text.append(make("small", {}, name));
    const open = make("button", { type: "button", className: "row-main", onclick: () => void this.#switch(w) }, this.catalogue.picture(w.application), text);
    if (w.active) open.setAttribute("aria-current", "true");
    const row = make("li", { className: "row" }, open, tool("close", words.closeWindow(title), () => void this.#close(w)));
    row.dataset["window"] = String(w.id);
    return row;
  }

  async #switch(w: AppWindow): Promise<void> {
    this.#panel.close();
    this.catalogue.close();
    this.room.stage.focus();
    await this.#act(w, "activate");
  }

  /** Asks the window to close. One that stays has a question first, about what is not saved, so it is shown. */
  async #close(w: AppWindow): Promise<void> {
    await this.#act(w, "close");
    await pause(patience);
    if (!this.#panel.open) return;
    const now = await getWindows().catch(() => undefined); // the news may be late
    if (this.#panel.open && now?.windows?.some((other) => other.id === w.id)) await this.#switch(w);
  }

  async #act(w: AppWindow, action: "activate" | "close"): Promise<void> {
    try {
      await actOnWindow(w.id, action);
    } catch (error) {
      this.room.notices.show("window", { icon: "alert", tone: "bad", text: why(error), lasts: 7000 });
    }
  }
}
