import type { End } from "./channel";
import { $, pause } from "./dom";
import { ImageForm } from "./image";
import { getInfo, Refusal, signOut, type Info } from "./info";
import type { Stage, Subject } from "./stage";

/** An image builder in the viewer: its stream ends and comes back with its state, and an image can be made of it. */
class Builder implements Subject {
  leaving = false;
  #form: ImageForm;

  constructor(private stage: Stage) {
    this.#form = new ImageForm(() => stage.focus());
    $("leave").onclick = () => void this.#leave();
  }

  shown(): void {
    void this.#tell();
  }

  notice(): void {
    // There is nothing that the server says of an image builder beside its picture.
  }

  async recover(end: End, attempt: number): Promise<boolean> {
    if (this.leaving) return false;
    const { name } = this.stage;
    let after: string | undefined;
    let image = this.#form.asked;
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
          this.stage.show("ended", { icon: "alert", tone: "bad", title: "Too many viewers", text: `${name} is open in too many places. Close one of them.`, action: this.stage.again });
          return false;
        }
        if (rest) await this.stage.countdown(attempt);
        return true;
      }
      image = info.image?.name ?? image;
      if (this.#follow(info)) return false;
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
      icon: "power", tone: "calm", title: "Disconnected",
      text: `${this.stage.name} keeps running. Open its streaming link to come back; stop it when you no longer need it.`,
    });
  }

  async #tell(): Promise<void> {
    try {
      const info = await getInfo();
      this.stage.light(info.state);
      this.stage.display.details([
        ["State", info.state + (info.reason ? ` (${info.reason})` : "")],
        ["Made from", info.baseImage],
        ["Platform", info.platform],
        ["Instance type", info.instanceType],
        ["Agent", info.agent],
        ["Address", info.address],
        ["Session ends", new Date(info.expires).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })],
      ]);
    } catch {
      // It is there to be looked at, nothing hangs on it.
    }
  }

  /** Shows the state of a builder that is not running; true when the end is reached. */
  #follow(info: Info): boolean {
    const { name, toolbar } = this.stage;
    this.stage.light(info.state);
    this.#form.close();
    toolbar.closePanels();
    const image = info.image;
    const stopped = info.state === "STOPPED";
    if (image?.state === "AVAILABLE" && stopped) {
      this.stage.show("ended", {
        icon: "check", tone: "good", title: `The image ${image.name} is ready`,
        text: `${name} is stopped. You can close this page. When ${name} is started again, its desktop opens here.`,
        steps: steps(3),
      });
      return false;
    }
    if (image?.state === "FAILED") {
      this.stage.show(stopped ? "ended" : "imaging", {
        icon: "alert", tone: "bad", title: `The image ${image.name} could not be made`, reason: image.reason,
        text: `Nothing on ${name} is lost. When it is started again, its desktop opens here.`,
      });
      return false;
    }
    if (info.state === "SNAPSHOTTING" || (image && image.state === "PENDING") || (image && info.state === "STOPPING")) {
      this.stage.show("imaging", {
        icon: "spinner", tone: "wait", title: image ? `Making the image ${image.name}` : "Making an image",
        text: "You can close this page; the image is made without it.",
        reason: image?.reason, steps: steps(image?.state === "AVAILABLE" ? 2 : 1),
      });
      return false;
    }
    const reason = info.reason;
    switch (info.state) {
      case "STOPPING":
        this.stage.show("waiting", { icon: "power", tone: "calm", title: `${name} is stopping`, text: "Its disk is kept.", reason });
        break;
      case "STOPPED":
        this.stage.show("waiting", { icon: "power", tone: "calm", title: `${name} is stopped`, text: "When someone starts it, its desktop opens here by itself.", reason });
        break;
      case "FAILED":
        this.stage.show("waiting", { icon: "alert", tone: "bad", title: `${name} has failed`, text: "StartImageBuilder tries to repair it. Its desktop then opens here by itself.", reason });
        break;
      case "DELETING":
        this.stage.show("waiting", { icon: "trash", tone: "calm", title: `${name} is being deleted`, text: "Its machine and everything on it go.", reason });
        break;
      case "REBOOTING":
        this.stage.show("waiting", { icon: "spinner", tone: "wait", title: `${name} is restarting`, text: "The desktop comes back by itself in a moment.", reason });
        break;
      case "RUNNING": // without a display
        location.reload();
        return true;
      default:
        this.stage.show("waiting", { icon: "spinner", tone: "wait", title: `${name} is starting`, text: "The desktop opens by itself as soon as it is ready.", reason });
    }
    return false;

    function steps(done: number) {
      return ["Desktop closed", "Disk captured", "Image builder stopped"].map((text, n) => ({
        text: n === 1 && done === 1 ? "Capturing the disk" : text,
        step: n < done ? ("done" as const) : n === done ? ("now" as const) : ("next" as const),
      }));
    }
  }
}

window.oriel.subject = (stage) => new Builder(stage);
