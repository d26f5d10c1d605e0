import type { End } from "./channel";
import { $, pause } from "./dom";
import { brief, clock, duration, when } from "./form";
import { Refusal } from "./info";
import { Notices } from "./notices";
import type { Panels } from "./panels";
import { endSession, getSession, type EndCode, type Notice, type SessionInfo } from "./seat";
import type { Stage, Subject } from "./stage";
import type { Action, Look } from "./veil";
import { why, words } from "./words";

/** The close codes of the gateway that only sessions have. */
const ended = 4011;
const elsewhere = 4012;
const idle = 4013;
const crowded = 4009;

/** How long it takes until the person is sent on, in seconds. */
const redirectAfter = 5;

/** Under so many seconds a time is counted down instead of written, and the session may be over at any moment. */
const soon = 120;

/** When it is asked once more what went wrong beside the session, in milliseconds: later than the server asks the machine. */
const lateNotes = 7_000;

/** A person's session in the viewer: what lies around its stream from the first wait to the last word. */
class Session implements Subject {
  #notices: Notices;
  #info: SessionInfo | undefined;
  #panels: Promise<Panels> | undefined;
  #shown = false; // there is a stream
  #left = false; // by "Disconnect", until the person comes back
  #over = false; // nothing comes back
  #following = false; // #begin has not come to its end
  #endTimer = 0;

  constructor(private stage: Stage) {
    this.#notices = new Notices(() => stage.focus());
    $("leave").onclick = () => this.#leave();
    const question = $<HTMLDialogElement>("ending");
    $("end").onclick = () => this.#ask();
    $("ending-back").onclick = () => question.close();
    $<HTMLFormElement>("ending-form").onsubmit = (event) => {
      event.preventDefault();
      void this.#end();
    };
    question.addEventListener("close", () => stage.focus());
    document.querySelector("[data-panel=leaving]")?.addEventListener("click", () => this.#hint());
    addEventListener("pageshow", (event) => event.persisted && location.reload());
    void this.#begin();
  }

  get leaving(): boolean {
    return this.#left || this.#over;
  }

  shown(): void {
    this.#notices.drop("idle");
    this.#shown = true;
    void this.#load();
  }

  notice(value: unknown): void {
    const notice = value as Notice;
    switch (notice?.notice) {
      case "ending":
        this.#endsIn(notice.in);
        break;
      case "idle":
        this.#idleIn(notice.in);
        break;
      case "active":
        this.#notices.drop("idle");
        break;
      case "clipboard":
        this.stage.clipboard.refused(notice.direction, notice.reason, notice.max ?? 0);
    }
  }

  async recover(end: End, attempt: number): Promise<boolean> {
    this.#rest();
    if (this.#over) return false;
    if (this.#left) return this.#disconnected();
    if (end.code === elsewhere) {
      return this.#wait({
        icon: "windows", tone: "calm", title: words.elsewhere, text: words.elsewhereText(this.stage.name),
      }, words.useHere);
    }
    if (end.code === idle) {
      return this.#wait({
        icon: "clock", tone: "calm", title: words.idle, text: words.idleText,
      }, words.reconnect);
    }
    let after: string | undefined;
    let rest = attempt > 0 || end.code === 4004;
    for (let unheard = 0; ; ) {
      let info: SessionInfo;
      try {
        info = await getSession(after);
      } catch (error) {
        if (this.#over) return false; // it was ended here meanwhile
        if (error instanceof Refusal && error.status < 500) {
          this.#finish();
          this.stage.over(error);
          return false;
        }
        await this.stage.countdown(unheard++); // the network, or the server, is away
        rest = false;
        continue;
      }
      if (this.#over) return false;
      unheard = 0;
      this.#tell(info);
      if (info.state === "EXPIRED") {
        this.#farewell(info);
        return false;
      }
      if (!info.streams) {
        location.reload(); // to the page that says so
        return false;
      }
      if (end.code === crowded) {
        this.stage.show("ended", { icon: "alert", tone: "bad", title: words.tooManyViewers, text: words.tooManyViewersText(this.stage.name), action: this.stage.again });
        return false;
      }
      if (info.state === "PENDING") this.#preparing(info);
      if (end.code === ended && info.version !== after) {
        after = info.version; // the news of the end is on its way
        continue;
      }
      if (rest) await this.stage.countdown(attempt);
      if (info.state === "PENDING" && !this.#following) void this.#begin(info); // the stream is held until there is something to see
      return true;
    }
  }

  /** Follows the session until its display can be there. */
  async #begin(info?: SessionInfo): Promise<void> {
    this.#following = true;
    await this.#follow(info);
    this.#following = false;
  }

  async #follow(info?: SessionInfo): Promise<void> {
    for (let after = info?.version; ; ) {
      try {
        info = await getSession(after);
      } catch (error) {
        if (error instanceof Refusal && error.status < 500) return; // the end of the stream tells of it
        await pause(1000);
        continue;
      }
      if (this.#over) return;
      this.#tell(info);
      if (info.view === "APP") void this.#load(); // the catalogue is the first thing to be seen
      const page = document.documentElement.dataset["state"] ?? "";
      if (info.state !== "PENDING") {
        // What its application did not do is only known after a while.
        setTimeout(() => void getSession().then((late) => this.#over || this.#tell(late), () => undefined), lateNotes);
        if (page === "waiting") this.stage.show("connecting", { icon: "spinner", tone: "wait", title: words.connecting(this.stage.name) });
        return;
      }
      if (page === "connecting" || page === "waiting") this.#preparing(info);
      if (info.version === after) await pause(500); // the server does not wait just now
      after = info.version;
    }
  }

  #preparing(info: SessionInfo): void {
    this.stage.show("waiting", {
      icon: "spinner", tone: "wait", title: words.preparing(this.stage.name),
      text: info.view === "APP" ? words.preparingApplications : words.preparingDesktop, reason: info.reason,
    });
  }

  #tell(info: SessionInfo): void {
    for (const note of info.notes ?? []) {
      if (!this.#info?.notes?.includes(note)) this.#notices.show(note, { icon: "alert", tone: "bad", text: words.note, quote: note });
    }
    this.#info = info;
    const { rules } = info;
    this.stage.light(info.state);
    this.stage.clipboard.allow(rules, this.#notices);
    document.querySelector<HTMLElement>("[data-panel=clipboard]")!.hidden = !rules.copyIn && !rules.copyOut;
    document.querySelector<HTMLElement>("[data-panel=files]")!.hidden = !rules.upload && !rules.download && !rules.print;
    this.#hint();
    const { detail } = words;
    this.stage.display.details([
      [detail.user, info.user],
      [detail.fleet, info.fleet],
      [detail.sessionEnds, when(new Date(info.maxEnd))],
      [detail.idle, info.idleSeconds > 0 ? words.after(duration(info.idleSeconds)) : undefined],
    ]);
    void this.#panels?.then((panels) => this.#goOn(panels), () => undefined);
  }

  /** Brings in what the first picture does not need, and has it go on with a new stream. */
  async #load(): Promise<void> {
    const { panels = "", worklet = "" } = document.documentElement.dataset;
    this.#panels ??= (import(panels) as Promise<typeof import("./panels")>).then(({ Panels }) =>
      new Panels({ stage: this.stage, notices: this.#notices, worklet }));
    try {
      this.#goOn(await this.#panels);
    } catch {
      this.#panels = undefined; // the network is away; the next stream tries again
    }
  }

  /** Has the panels live with the stream. The picture, the panels and the news of the session come in any order. */
  #goOn(panels: Panels): void {
    if (!this.#info) return;
    panels.tell(this.#info);
    if (this.#shown && this.#info.state === "ACTIVE" && !this.leaving) panels.resume();
  }

  /** Has everything rest that lives with the stream. Nobody waits for panels that are still on their way. */
  #rest(): void {
    this.#shown = false;
    this.stage.toolbar.closePanels();
    $<HTMLDialogElement>("ending").close();
    this.#notices.drop("idle");
    void this.#panels?.then((panels) => panels.rest(), () => undefined);
  }

  #leave(): void {
    this.#left = true;
    const goodbye = this.#goodbye();
    this.stage.show("ended", { ...goodbye, text: `${goodbye.text ?? ""} ${kept(this.#keptUntil())}` });
    const screen = this.stage.screen();
    if (screen) screen.disconnect();
  }

  #goodbye(): Look {
    return { icon: "disconnect", tone: "calm", title: words.disconnected, text: words.goodbyeText(this.stage.name) };
  }

  async #disconnected(): Promise<boolean> {
    return this.#wait(this.#goodbye(), words.reconnect);
  }

  /** Shows why there is no stream until the person wants one; false when the session has ended instead. */
  async #wait(look: Look, text: string): Promise<boolean> {
    this.stage.ghost.drop();
    this.#left = true;
    const since = Date.now();
    const until = () => this.#keptUntil(since);
    const stop = new AbortController();
    const back = await new Promise<boolean>((resolve) => {
      const actions: Action[] = [
        { text, strong: true, run: () => resolve(true) },
        { text: words.endSession, run: () => this.#ask(() => resolve(false)) },
      ];
      const paint = () => this.stage.show("ended", { ...look, text: `${look.text ?? ""} ${kept(until())}`, actions });
      paint();
      void this.#keep(until, paint, stop.signal).then((over) => over && resolve(false));
    });
    stop.abort();
    if (!back) return false;
    this.#left = false;
    this.stage.show("reconnecting", { icon: "spinner", tone: "wait", title: words.connecting(this.stage.name) });
    return true;
  }

  /** Counts down what is left of a session without a stream, and tells of its end when it comes; true then. */
  async #keep(until: () => Date | undefined, paint: () => void, signal: AbortSignal): Promise<boolean> {
    for (let asked = 0, known = until() !== undefined; !signal.aborted; ) {
      await pause(1000, signal);
      if (signal.aborted || this.#over) return false;
      const end = until();
      if (!end) continue; // the news of the session are still on their way
      const left = end.getTime() - Date.now();
      if (left < soon * 1000 || !known) paint();
      known = true;
      if (left > 0 || Date.now() - asked < 3000) continue;
      asked = Date.now();
      try {
        const info = await getSession();
        if (signal.aborted || this.#over) return false;
        if (info.state !== "EXPIRED") continue;
        $<HTMLDialogElement>("ending").close();
        this.#farewell(info);
        return true;
      } catch (error) {
        if (signal.aborted || this.#over) return false;
        if (!(error instanceof Refusal) || error.status >= 500) continue; // the network, or the server, is away
        $<HTMLDialogElement>("ending").close();
        this.#finish();
        this.stage.over(error);
        return true;
      }
    }
    return false;
  }

  #ended: (() => void) | undefined; // what waits for the person's answer

  /** Asks once whether the session shall end. */
  #ask(then?: () => void): void {
    this.#ended = then;
    this.stage.toolbar.closePanels();
    $("ending-error").hidden = true;
    $<HTMLDialogElement>("ending").showModal();
    $("ending-back").focus();
  }

  async #end(): Promise<void> {
    const button = $<HTMLButtonElement>("ending-submit");
    button.disabled = true;
    try {
      await endSession();
    } catch (error) {
      $("ending-error").textContent = why(error);
      $("ending-error").hidden = false;
      return;
    } finally {
      button.disabled = false;
    }
    if (this.#over) return; // the stream was quicker to tell
    this.#over = true;
    $<HTMLDialogElement>("ending").close();
    this.stage.screen()?.disconnect();
    this.#ended?.();
    this.stage.show("waiting", { icon: "spinner", tone: "wait", title: words.ending, text: words.endingText });
    for (let after: string | undefined; ; ) {
      try {
        const info = await getSession(after);
        if (info.state === "EXPIRED") return this.#farewell(info);
        if (info.version === after) await pause(500);
        after = info.version;
      } catch (error) {
        if (error instanceof Refusal && error.status < 500) return this.stage.over(error);
        await pause(1000);
      }
    }
  }

  #finish(): void {
    this.#over = true;
    this.stage.ghost.drop();
    clearInterval(this.#endTimer);
    $("ends").hidden = true;
    this.#notices.drop("ending");
  }

  /** The last word of a session: why it ended, and where to go from here. */
  #farewell(info: SessionInfo): void {
    this.#finish();
    this.stage.light("EXPIRED");
    const feedback: Action[] = web(info.feedbackURL) ? [{ text: words.giveFeedback, href: info.feedbackURL ?? "", aside: true }] : [];
    const code = info.endCode && info.endCode in farewells ? info.endCode : "user";
    const { again, ...look }: Farewell = { ...farewells[code], ...words.farewell[code] };
    const portal = info.portal?.startsWith("/portal/") ? info.portal : undefined;
    if (again && portal === undefined) look.text = `${look.text ?? ""} ${words.another}`; // who came by the portal has no link
    if (!web(info.redirectURL)) {
      const back: Action[] = portal === undefined ? [] : [{ text: words.backToPortal, strong: true, href: portal }];
      this.stage.show("ended", { ...look, actions: [...back, ...feedback] });
      return;
    }
    const target = info.redirectURL ?? "";
    let left = redirectAfter;
    let timer = 0;
    const stay: Action = { text: words.stayHere, run: () => (clearInterval(timer), this.stage.show("ended", { ...look, actions: [go, ...feedback] })) };
    const go: Action = { text: words.goOn, strong: true, href: target };
    const paint = () => this.stage.show("ended", { ...look, text: `${look.text ?? ""} ${words.goingOn(new URL(target).host, brief(left))}`, actions: [go, ...feedback, stay] });
    paint();
    timer = window.setInterval(() => {
      if (--left > 0) return paint();
      clearInterval(timer);
      location.assign(target);
    }, 1000);
  }

  #endsIn(seconds: number): void {
    const until = performance.now() + seconds * 1000;
    this.#notices.show("ending", {
      icon: "clock", tone: "wait", text: words.endsIn(duration(seconds)), until, lasts: 60_000, urgent: true,
    });
    const chip = $("ends");
    clearInterval(this.#endTimer);
    const paint = () => {
      const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      chip.textContent = clock(left);
      chip.hidden = left === 0;
    };
    paint();
    this.#endTimer = window.setInterval(paint, 1000);
  }

  #idleIn(seconds: number): void {
    const stir = () => this.stage.screen()?.stir();
    this.#notices.show("idle", {
      icon: "clock", tone: "wait", text: words.idleIn, until: performance.now() + seconds * 1000,
      after: matchMedia("(pointer: coarse)").matches ? words.touchToStay : words.moveToStay, urgent: true, action: { text: words.iAmHere, run: stir },
    });
    // The mouse may be on the toolbar or a panel, of which the desktop knows nothing.
    const here = new AbortController();
    const sign = () => (this.#notices.has("idle") ? stir() : undefined, here.abort());
    for (const type of ["pointermove", "pointerdown", "keydown", "wheel"]) addEventListener(type, sign, { capture: true, passive: true, signal: here.signal });
  }

  #hint(): void {
    $("leave-hint").textContent = `${words.everythingStays} ${kept(this.#keptUntil())}`;
  }

  /** Finds until when the session is kept if its stream ends now, or has ended. */
  #keptUntil(since = Date.now()): Date | undefined {
    if (!this.#info) return undefined;
    const { awaySeconds, maxEnd } = this.#info;
    const end = Date.parse(maxEnd);
    return new Date(awaySeconds === undefined ? end : Math.min(end, since + awaySeconds * 1000));
  }
}

/** Says until when a session is kept without a stream. */
function kept(until: Date | undefined): string {
  if (!until) return words.keptForAWhile;
  const left = Math.ceil((until.getTime() - Date.now()) / 1000);
  if (left <= 0) return words.sessionEnding;
  return left < soon ? words.keptFor(duration(left)) : words.keptUntil(when(until));
}

/** The last word of a session; again: another can begin at once. */
interface Farewell extends Look {
  again?: boolean;
}

/** How the last word looks; what it says is in words.farewell. */
const farewells: Record<EndCode, Pick<Farewell, "icon" | "tone" | "again">> = {
  user: { icon: "check", tone: "good" },
  admin: { icon: "power", tone: "calm" },
  away: { icon: "clock", tone: "calm", again: true },
  duration: { icon: "clock", tone: "calm", again: true },
  fleet: { icon: "power", tone: "calm" },
  instance: { icon: "alert", tone: "bad", again: true },
  start: { icon: "alert", tone: "bad", again: true },
};

/** Tells whether an address is one of the web. */
const web = (address: string | undefined) => /^https?:\/\//i.test(address ?? "") && URL.canParse(address ?? "");

window.oriel.subject = (stage) => new Session(stage);
