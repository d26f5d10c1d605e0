import { ImageForm } from "./image";
import type { Info } from "./info";
import { Machine } from "./machine";
import type { Stage } from "./stage";

/** An image builder in the viewer: an image can be made of it. */
class Builder extends Machine {
  #form: ImageForm;

  constructor(stage: Stage) {
    super(stage);
    this.#form = new ImageForm(() => stage.focus());
  }

  protected override get asked(): string | undefined {
    return this.#form.asked;
  }

  protected follow(info: Info): boolean {
    const { name } = this.stage;
    this.#form.close();
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
