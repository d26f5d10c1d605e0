// The viewer: brings the desktop up, and brings it back whenever it went away for a reason that passes.
import type { Channel, End } from "./channel";
import { Clipboard } from "./clipboard";
import { Display } from "./display";
import { $, pause } from "./dom";
import { ImageForm } from "./image";
import { getInfo, Refusal, signOut, type Info } from "./info";
import { Keyboard } from "./keyboard";
import { Screen } from "./screen";
import { Toolbar } from "./toolbar";
import { ghost, setState, show } from "./veil";

/** A stream that lasted so long was in order, so that the next attempt comes at once again. */
const steadyAfter = 2_000;

const name = $("name").textContent ?? "";
let screen: Screen | null = null;
let leaving = false;

const focusDesktop = () => {
  if (!document.querySelector("dialog[open]")) screen?.focus({ preventScroll: true });
};
const toolbar = new Toolbar(focusDesktop);
const clipboard = new Clipboard();
const keyboard = new Keyboard();
const display = new Display();
const form = new ImageForm(focusDesktop);

addEventListener("focus", focusDesktop);
$("leave").onclick = () => void leave();

async function leave(): Promise<void> {
  leaving = true;
  const gone = signOut();
  screen?.disconnect();
  await gone;
  show("ended", {
    icon: "power", tone: "calm", title: "Disconnected",
    text: `${name} keeps running. Open its streaming link to come back; stop it when you no longer need it.`,
  });
}

/** Runs one channel from noVNC's handshake to its end. */
async function stream(channel: Channel): Promise<End & { steady: boolean }> {
  let since = Infinity;
  channel.onending = () => {
    ghost.take();
    setLatency(null);
    if (!leaving) setState("reconnecting");
  };
  channel.onlatency = setLatency;
  if (channel.latency !== undefined) setLatency(channel.latency); // it may have been measured before this script was there
  if (channel.readyState !== WebSocket.CLOSED) {
    const mine = new Screen($("desktop"), channel);
    screen = mine;
    mine.addEventListener("connect", () => {
      display.attach(mine);
      keyboard.attach(mine);
      clipboard.attach(mine);
    });
    mine.addEventListener("firstframe", () => {
      if (performance.getEntriesByName("oriel:first-frame").length === 0) performance.mark("oriel:first-frame");
      since = performance.now();
      setState("connected");
      ghost.drop();
      focusDesktop();
      toolbar.rest(3500);
      void tell();
    });
    // A display that speaks no RFB, or breaks off: noVNC says so, and closes the channel in its own time.
    mine.addEventListener("disconnect", () => channel.abandon());
    mine.addEventListener("securityfailure", () => channel.abandon());
  }
  const end = await channel.ended;
  screen = null;
  return { ...end, steady: performance.now() - since > steadyAfter };
}

async function tell(): Promise<void> {
  try {
    const info = await getInfo();
    display.tell(info);
    $("dot").dataset["state"] = info.state;
  } catch {
    // It is there to be looked at, nothing hangs on it.
  }
}

/** Finds out what became of the stream and waits until there can be one again; false when there cannot. */
async function recover(end: End, attempt: number): Promise<boolean> {
  let after: string | undefined;
  let image = form.asked;
  // The first attempt is made at once, unless the display itself is what failed.
  let rest = attempt > 0 || end.code === 4004;
  for (let unheard = 0; ; ) {
    let info: Info;
    try {
      info = await getInfo({ ...(after && { after }), ...(image && { image }), signal: AbortSignal.timeout(after ? 40_000 : 6_000) });
    } catch (error) {
      if (error instanceof Refusal && error.status < 500) {
        over(error);
        return false;
      }
      await countdown(unheard++); // the network, or the server, is away
      rest = false;
      continue;
    }
    unheard = 0;
    if (info.state === "RUNNING" && info.streams) {
      if (end.code === 4009) {
        show("ended", { icon: "alert", tone: "bad", title: "Too many viewers", text: `${name} is open in too many places. Close one of them.`, action: again });
        return false;
      }
      if (rest) await countdown(attempt);
      return true;
    }
    image = info.image?.name ?? image;
    if (await follow(info)) return false;
    if (info.version === after) await pause(250); // the server does not wait just now
    after = info.version;
    rest = false;
  }
}

const again = { text: "Try again", run: () => location.reload() };

/** Shows the state of a builder that is not running; true when the end is reached. */
async function follow(info: Info): Promise<boolean> {
  $("dot").dataset["state"] = info.state;
  form.close();
  toolbar.closePanels();
  const image = info.image;
  const stopped = info.state === "STOPPED";
  if (image?.state === "AVAILABLE" && stopped) {
    show("ended", {
      icon: "check", tone: "good", title: `The image ${image.name} is ready`,
      text: `${name} is stopped. You can close this page. When ${name} is started again, its desktop opens here.`,
      steps: steps(3),
    });
    return false;
  }
  if (image?.state === "FAILED") {
    show(stopped ? "ended" : "imaging", {
      icon: "alert", tone: "bad", title: `The image ${image.name} could not be made`, reason: image.reason,
      text: `Nothing on ${name} is lost. When it is started again, its desktop opens here.`,
    });
    return false;
  }
  if (info.state === "SNAPSHOTTING" || (image && image.state === "PENDING") || (image && info.state === "STOPPING")) {
    show("imaging", {
      icon: "spinner", tone: "wait", title: image ? `Making the image ${image.name}` : "Making an image",
      text: "You can close this page; the image is made without it.",
      reason: image?.reason, steps: steps(image?.state === "AVAILABLE" ? 2 : 1),
    });
    return false;
  }
  const reason = info.reason;
  switch (info.state) {
    case "STOPPING":
      show("waiting", { icon: "power", tone: "calm", title: `${name} is stopping`, text: "Its disk is kept.", reason });
      break;
    case "STOPPED":
      show("waiting", { icon: "power", tone: "calm", title: `${name} is stopped`, text: "When someone starts it, its desktop opens here by itself.", reason });
      break;
    case "FAILED":
      show("waiting", { icon: "alert", tone: "bad", title: `${name} has failed`, text: "StartImageBuilder tries to repair it. Its desktop then opens here by itself.", reason });
      break;
    case "DELETING":
      show("waiting", { icon: "trash", tone: "calm", title: `${name} is being deleted`, text: "Its machine and everything on it go.", reason });
      break;
    case "REBOOTING":
      show("waiting", { icon: "spinner", tone: "wait", title: `${name} is restarting`, text: "The desktop comes back by itself in a moment.", reason });
      break;
    case "RUNNING": // without a display
      location.reload();
      return true;
    default:
      show("waiting", { icon: "spinner", tone: "wait", title: `${name} is starting`, text: "The desktop opens by itself as soon as it is ready.", reason });
  }
  return false;

  function steps(done: number) {
    return ["Desktop closed", "Disk captured", "Image builder stopped"].map((text, n) => ({
      text: n === 1 && done === 1 ? "Capturing the disk" : text,
      step: n < done ? ("done" as const) : n === done ? ("now" as const) : ("next" as const),
    }));
  }
}

/** Shows the reason why there is nothing to come back to. */
function over(refusal: Refusal): void {
  const [title, text = ""] = refusal.message.split(/(?<=[.]) (.*)/s);
  const icon = { deleted: "trash", expired: "clock", session: "clock" }[refusal.code] ?? "alert";
  show("ended", {
    icon: icon as "trash", tone: icon === "alert" ? "bad" : "calm", title: (title ?? "").replace(/\.$/, ""), text,
    ...(icon === "alert" && { action: again }),
  });
}

/** Waits longer with each attempt, says so, and goes on at once when asked to or when the network is back. */
async function countdown(attempt: number): Promise<void> {
  const skip = new AbortController();
  const wait = Math.min(5_000, 300 * 2 ** attempt) * (0.85 + 0.3 * Math.random());
  const until = performance.now() + wait;
  const text = () => {
    const seconds = Math.ceil((until - performance.now()) / 1000);
    if (!navigator.onLine) return "This computer is offline.";
    return attempt < 2 ? "The connection was lost." : `The server does not answer yet. Next attempt in ${seconds} s (attempt ${attempt + 1}).`;
  };
  const paint = () =>
    show("reconnecting", {
      icon: "spinner", tone: "wait", title: "Reconnecting", text: text(),
      ...(attempt >= 2 && { action: { text: "Reconnect now", run: () => skip.abort() } }),
    });
  paint();
  const timer = setInterval(paint, 1000);
  const online = () => skip.abort();
  addEventListener("online", online);
  await pause(wait, skip.signal);
  removeEventListener("online", online);
  clearInterval(timer);
}

function setLatency(ms: number | null): void {
  const level = ms === null ? 0 : ms < 40 ? 4 : ms < 100 ? 3 : ms < 250 ? 2 : 1;
  $("quality").dataset["level"] = String(level);
  $("latency").textContent = ms === null ? "" : `${Math.max(1, Math.round(ms))} ms`;
  $("quality").title = ms === null ? "No answer from the server" : `${Math.max(1, Math.round(ms))} ms to the server and back`;
}

async function run(): Promise<void> {
  let channel = window.oriel.first;
  for (let attempt = 0; ; attempt++) {
    const end = await stream(channel);
    if (leaving) return;
    if (end.steady) attempt = 0;
    if (attempt === 0) show("reconnecting", { icon: "spinner", tone: "wait", title: "Reconnecting", text: "The connection was lost." });
    if (!(await recover(end, attempt))) return;
    channel = window.oriel.open();
  }
}

void run();
