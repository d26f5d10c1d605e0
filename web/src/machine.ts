import type { End } from "./channel";
import { $, pause } from "./dom";
import { when } from "./form";
import { getInfo, Refusal, signOut, type Info } from "./info";
import type { Stage, Subject } from "./stage";
import { words } from "./words";

/** What a builder of images or packages has in the viewer: its stream ends and comes back with its state. */
export abstract class Machine implements Subject {
  leaving = false;

  constructor(protected stage: Stage) {
    $("leave").onclick = () => void this.#leave();
  }

  /** The image that was asked for here, if any. */
  protected get asked(): string | undefined {
    return undefined;
  }

  /** Shows the state of a builder that is not running; true when the end is reached. */
  protected abstract follow(info: Info): boolean;

  shown(): void {
    void this.#tell();
  }

  notice(): void {
    // There is nothing that the server says of a builder beside its picture.
  }

  async recover(end: End, attempt: number): Promise<boolean> {
    if (this.leaving) return false;
    const { name } = this.stage;
    let after: string | undefined;
    let image = this.asked;
    // The first attempt is made at once, unless the display itself is what failed.
    let rest = attempt > 0 || end.code === 4004;
    for (let unheard = 0; ; ) {
      let info: Info;
      try {
        info = await getInfo({ ...(after && { after }), ...(image && { image }), signal: AbortSignal.timeout(after ? 40_000 : 6_000) });
      } catch (error) {
        if (error instanceof Refusal && error.status < 500) {
          this.stage.over(error);
          return false;
        }
        await this.stage.countdown(unheard++); // the network, or the server, is away
        rest = false;
        continue;
      }
      unheard = 0;
      if (info.state === "RUNNING" && info.streams) {
        if (end.code === 4009) {
          this.stage.show("ended", { icon: "alert", tone: "bad", title: words.tooManyViewers, text: words.tooManyViewersText(name), action: this.stage.again });
          return false;
        }
        if (rest) await this.stage.countdown(attempt);
        return true;
      }
      image = info.image?.name ?? image;
      this.stage.light(info.state);
      this.stage.toolbar.closePanels();
      if (this.follow(info)) return false;
      if (info.version === after) await pause(250); // the server does not wait just now
      after = info.version;
      rest = false;
    }
  }

  async #leave(): Promise<void> {
    this.leaving = true;
    const gone = signOut();
    this.stage.screen()?.disconnect();
    await gone;
    this.stage.show("ended", {
      icon: "power", tone: "calm", title: words.disconnected, text: words.builderLeft(this.stage.name),
    });
  }

  async #tell(): Promise<void> {
    try {
      const info = await getInfo();
      this.stage.light(info.state);
      const { detail } = words;
      this.stage.display.details([
        [detail.state, info.state + (info.reason ? ` (${info.reason})` : "")],
        [detail.baseImage, info.baseImage],
        [detail.platform, info.platform],
        [detail.instanceType, info.instanceType],
        [detail.agent, info.agent],
        [detail.address, info.address],
        [detail.sessionEnds, when(new Date(info.expires))],
      ]);
    } catch {
      // It is there to be looked at, nothing hangs on it.
    }
  }
}
