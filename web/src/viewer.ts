// The viewer: brings the desktop up, and brings it back whenever it went away for a reason that passes.
import type { Channel, End } from "./channel";
import { Clipboard } from "./clipboard";
import { Display } from "./display";
import { $, say } from "./dom";
import { milliseconds } from "./form";
import { Keyboard } from "./keyboard";
import { Screen } from "./screen";
import { Stage } from "./stage";
import { Toolbar } from "./toolbar";
import { Typing } from "./typing";
import { ghost, setState, show } from "./veil";
import { words } from "./words";

/** A stream that lasted so long was in order, so that the next attempt comes at once again. */
const steadyAfter = 2_000;

let screen: Screen | null = null;

/** Gives the keyboard to what is to be worked with: the desktop, or the home screen that lies over it. */
const focusDesktop = () => {
  if (document.querySelector("dialog[open]") || document.activeElement?.closest("#home")) return;
  const home = document.querySelector<HTMLElement>("#home:not([hidden]) .app[tabindex='0']");
  if (home) home.focus({ preventScroll: true });
  else screen?.focus({ preventScroll: true });
};
const toolbar = new Toolbar(focusDesktop);
const clipboard = new Clipboard();
const keyboard = new Keyboard();
const typing = new Typing();
const display = new Display();
const subject = window.oriel.subject(new Stage($("name").textContent ?? "", toolbar, clipboard, display, () => screen, focusDesktop));

addEventListener("focus", focusDesktop);

/** Runs one channel from noVNC's handshake to its end. */
async function stream(channel: Channel): Promise<End & { steady: boolean }> {
  let since = Infinity;
  channel.onending = () => {
    ghost.take();
    setLatency(null);
    if (!subject.leaving) setState("reconnecting");
  };
  channel.onlatency = setLatency;
  channel.listen((notice) => subject.notice(notice));
  if (channel.latency !== undefined) setLatency(channel.latency); // it may have been measured before this script was there
  if (channel.readyState !== WebSocket.CLOSED) {
    const mine = new Screen($("desktop"), channel, $("typing"));
    screen = mine;
    mine.addEventListener("connect", () => {
      display.attach(mine);
      keyboard.attach(mine);
      typing.attach(mine);
      clipboard.attach(mine);
    });
    mine.addEventListener("firstframe", () => {
      if (performance.getEntriesByName("oriel:first-frame").length === 0) performance.mark("oriel:first-frame");
      since = performance.now();
      setState("connected");
      ghost.drop();
      focusDesktop();
      toolbar.greet();
      say($("desktop-name").textContent ?? "");
      subject.shown();
    });
    // A display that speaks no RFB, or breaks off: noVNC says so, and closes the channel in its own time.
    mine.addEventListener("disconnect", () => channel.abandon());
    mine.addEventListener("securityfailure", () => channel.abandon());
  }
  const end = await channel.ended;
  screen = null;
  return { ...end, steady: performance.now() - since > steadyAfter };
}

function setLatency(ms: number | null): void {
  const level = ms === null ? 0 : ms < 40 ? 4 : ms < 100 ? 3 : ms < 250 ? 2 : 1;
  $("quality").dataset["level"] = String(level);
  const time = ms === null ? "" : milliseconds(ms);
  $("latency").textContent = time;
  $("quality").title = $("quality").ariaLabel = time ? words.latency(time) : words.noAnswer;
}

async function run(): Promise<void> {
  let channel = window.oriel.first;
  for (let attempt = 0; ; attempt++) {
    const end = await stream(channel);
    if (end.steady) attempt = 0;
    // From 4011 on the gateway ended it for a reason that the subject tells at once.
    if (attempt === 0 && !subject.leaving && end.code < 4011) show("reconnecting", { icon: "spinner", tone: "wait", title: words.reconnecting, text: words.connectionLost });
    if (!(await subject.recover(end, attempt))) return;
    channel = window.oriel.open();
  }
}

void run();
