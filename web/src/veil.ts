import { $, say } from "./dom";

/** What lies over the desktop while there is none to be seen. */
export interface Look {
  icon: "spinner" | "check" | "alert" | "power" | "clock" | "trash" | "disconnect" | "windows";
  tone: "calm" | "wait" | "good" | "bad";
  title: string;
  text?: string;
  reason?: string | undefined;
  steps?: { text: string; step: "done" | "now" | "next" }[];
  action?: Action;
  actions?: Action[];
}

/** A button under the text, or a link if it has an address. */
export interface Action {
  text: string;
  run?: () => void;
  href?: string;
  /** Opens the address in another tab. */
  aside?: boolean;
  /** What most people want. */
  strong?: boolean;
}

/** The states that the page can be in, for the style sheet and for tests: <html data-state>. */
export type PageState = "connecting" | "connected" | "reconnecting" | "waiting" | "imaging" | "ended";

export function setState(state: PageState): void {
  if (state === "connected") said = "";
  document.documentElement.dataset["state"] = state;
}

let said = "";

/** Shows a look, and has screen readers say it: not again when nothing but a number has changed, which is a countdown. */
export function show(state: PageState, look: Look): void {
  const words = [look.title, look.text, look.reason].filter(Boolean).join(". ");
  if (words.replace(/\d+/g, "") !== said.replace(/\d+/g, "")) say((said = words));
  $("card").dataset["tone"] = look.tone;
  $("emblem").dataset["icon"] = look.icon;
  put($("veil-title"), look.title);
  put($("veil-text"), look.text ?? "");
  put($("veil-reason"), look.reason ?? "");
  $("veil-reason").hidden = !look.reason;

  const steps = $("steps");
  steps.hidden = !look.steps;
  steps.replaceChildren(
    ...(look.steps ?? []).map(({ text, step }) => {
      const li = document.createElement("li");
      li.textContent = text;
      li.dataset["step"] = step;
      if (step === "now") li.setAttribute("aria-current", "step");
      return li;
    }),
  );

  offer(look.actions ?? (look.action ? [look.action] : []));
  setState(state);
  // Tab goes on from here to what can be done; a key that was meant for the desktop does nothing.
  if (state === "ended" && !document.activeElement?.closest("#veil, dialog.sheet")) $("card").focus({ preventScroll: true });
}

let offered: Action[] = [];

/** Shows the actions. Those that are there already stay, so that nobody's focus is lost when the text changes. */
function offer(actions: Action[]): void {
  const same = actions.length === offered.length && actions.every((a, n) => a.text === offered[n]?.text && a.href === offered[n]?.href);
  offered = actions;
  if (same) return;
  $("veil-actions").replaceChildren(
    ...actions.map((action, n) => {
      const element = document.createElement(action.href ? "a" : "button");
      element.className = action.strong ? "button strong" : "button";
      element.textContent = action.text;
      if (n === 0) element.id = "veil-action";
      if (element instanceof HTMLAnchorElement) {
        element.href = action.href ?? "";
        element.rel = "noreferrer";
        if (action.aside) element.target = "_blank";
      } else {
        element.type = "button";
      }
      element.onclick = () => offered[n]?.run?.();
      return element;
    }),
  );
}

function put(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Keeps the last picture of the desktop behind the veil. */
export const ghost = {
  take(): void {
    const canvas = document.querySelector<HTMLCanvasElement>("#desktop canvas");
    const copy = $<HTMLCanvasElement>("ghost");
    if (!canvas || canvas.width === 0) return;
    copy.width = canvas.width;
    copy.height = canvas.height;
    copy.getContext("2d")?.drawImage(canvas, 0, 0);
    copy.hidden = false;
  },
  drop(): void {
    $("ghost").hidden = true;
  },
};
