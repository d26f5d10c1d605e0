import { $ } from "./dom";

/** What lies over the desktop while there is none to be seen. */
export interface Look {
  icon: "spinner" | "check" | "alert" | "power" | "clock" | "trash";
  tone: "calm" | "wait" | "good" | "bad";
  title: string;
  text?: string;
  reason?: string | undefined;
  steps?: { text: string; step: "done" | "now" | "next" }[];
  action?: { text: string; run: () => void };
}

/** The states that the page can be in, for the style sheet and for tests: <html data-state>. */
export type PageState = "connecting" | "connected" | "reconnecting" | "waiting" | "imaging" | "ended";

export function setState(state: PageState): void {
  document.documentElement.dataset["state"] = state;
}

/** Shows a look. Only what differs is touched, so that screen readers say only that. */
export function show(state: PageState, look: Look): void {
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
      return li;
    }),
  );

  const button = $<HTMLButtonElement>("veil-action");
  button.hidden = !look.action;
  button.onclick = look.action?.run ?? null;
  if (look.action) put(button, look.action.text);
  setState(state);
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
