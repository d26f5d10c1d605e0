import { $ } from "./dom";
import { number } from "./form";
import type { Notices } from "./notices";
import type { Screen } from "./screen";
import type { Rules } from "./seat";
import { words } from "./words";

/** The most that is passed between the clipboards, in characters; AppStream's limit. */
const limit = 20_971_520;

/**
 * Keeps the clipboards of the desktop and of this computer in step: by itself where the browser allows it, by hand in the panel
 * everywhere.
 */
export class Clipboard {
  #screen: Screen | null = null;
  #text = $<HTMLTextAreaElement>("clipboard-text");
  #sync = $<HTMLButtonElement>("clipboard-sync");
  #last = ""; // the text that both sides have
  #owed: string | null = null; // what this computer is to get as soon as the page has the focus
  #rules: Pick<Rules, "copyIn" | "copyOut" | "copyInMax" | "copyOutMax"> = { copyIn: true, copyOut: true, copyInMax: 0, copyOutMax: 0 };
  #notices: Notices | null = null;
  #said = 0; // the timer that takes a word away again

  constructor() {
    this.#text.oninput = () => this.#toDesktop(this.#text.value);
    $("clipboard-copy").onclick = () => void this.#copy();
    this.#sync.onclick = () => void this.#read(true);
    addEventListener("focus", () => void this.#arrive());
    document.addEventListener("copy", () => setTimeout(() => void this.#read(false), 0));
    void this.#offer();
  }

  /** Offers only what the rules of a session allow, and says in notices what was refused. */
  allow(rules: Rules, notices: Notices): void {
    this.#rules = rules;
    this.#notices = notices;
    const { copyIn, copyOut, copyInMax, copyOutMax } = rules;
    const most = (max: number) => (max > 0 ? words.clipboardMost(number(max)) : "");
    $("clipboard-hint").textContent = [
      copyOut ? words.clipboardOut : "", copyOut ? most(copyOutMax) : "", copyIn ? words.clipboardIn : "", copyIn ? most(copyInMax) : "",
      copyIn ? "" : words.clipboardNoIn, copyOut ? "" : words.clipboardNoOut,
    ].filter(Boolean).join(" ");
    this.#text.readOnly = !copyIn;
    $("clipboard-copy").hidden = !copyOut;
    void this.#offer();
  }

  /** Says that a text did not get through. */
  refused(direction: "in" | "out", reason: "disabled" | "length", max: number): void {
    const inwards = direction === "in";
    const [forbidden, tooLong] = inwards ? [words.cannotCopyIn, words.tooLongIn] : [words.cannotCopyOut, words.tooLongOut];
    this.#notices?.show("clipboard", { icon: "clipboard", tone: "bad", lasts: 9000, text: reason === "disabled" ? forbidden : tooLong(number(max)) });
  }

  /** Takes up a new display. It is told of the text that this computer has. */
  attach(screen: Screen): void {
    this.#screen = screen;
    this.#last = "";
    screen.addEventListener("clipboard", (event) => {
      const { text } = (event as CustomEvent<{ text: string }>).detail;
      if (text.length > limit || text === this.#last) return;
      this.#last = this.#text.value = text;
      this.#owed = text;
      void this.#toComputer();
    });
    void this.#read(false);
  }

  #toDesktop(text: string): void {
    if (text === this.#last || text.length > limit || !this.#rules.copyIn) return;
    this.#last = text;
    // Counted as the server counts, which would refuse it.
    const max = this.#rules.copyInMax;
    if (max > 0 && text.length > max && [...text].length > max) {
      this.refused("in", "length", max);
      return;
    }
    this.#screen?.clipboardPasteFrom(text);
  }

  async #toComputer(): Promise<void> {
    if (this.#owed === null || !document.hasFocus()) return; // on arrival then
    const text = this.#owed;
    try {
      await navigator.clipboard.writeText(text);
      if (this.#owed === text) this.#owed = null;
    } catch {
      // Not allowed here; the panel has it.
    }
  }

  async #arrive(): Promise<void> {
    if (this.#owed !== null) await this.#toComputer();
    else await this.#read(false);
  }

  /** Takes this computer's text, without a question unless asking is wanted. */
  async #read(ask: boolean): Promise<void> {
    if (!this.#rules.copyIn || !document.hasFocus() || (!ask && (await permission()) !== "granted")) return;
    try {
      const text = await navigator.clipboard.readText();
      if (text !== "" && text !== this.#last) {
        this.#text.value = text;
        this.#toDesktop(text);
      }
      if (ask) this.#say(words.inStep);
    } catch {
      if (ask) this.#say(words.browserForbids);
    }
    if (ask) void this.#offer();
  }

  async #copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.#text.value);
      this.#say(words.copied);
    } catch {
      this.#text.select(); // for the person's own Ctrl+C
      this.#say(words.pressToCopy);
    }
  }

  /** Shows the button that has the browser ask for the permission, if that makes sense. */
  async #offer(): Promise<void> {
    this.#sync.hidden = (await permission()) !== "prompt" || !this.#rules.copyIn;
  }

  #say(text: string): void {
    $("clipboard-status").textContent = text;
    clearTimeout(this.#said);
    this.#said = window.setTimeout(() => ($("clipboard-status").textContent = ""), 4000);
  }
}

/** The permission to read this computer's clipboard; "denied" where the browser has no such thing. */
async function permission(): Promise<PermissionState> {
  try {
    return (await navigator.permissions.query({ name: "clipboard-read" as PermissionName })).state;
  } catch {
    return "denied";
  }
}
