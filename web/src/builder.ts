import { ImageForm } from "./image";
import type { Info } from "./info";
import { Machine } from "./machine";
import type { Stage } from "./stage";
import { words } from "./words";

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
        icon: "check", tone: "good", title: words.imageReady(image.name),
        text: words.imageReadyText(name),
        steps: steps(3),
      });
      return false;
    }
    if (image?.state === "FAILED") {
      this.stage.show(stopped ? "ended" : "imaging", {
        icon: "alert", tone: "bad", title: words.imageFailed(image.name), reason: image.reason,
        text: words.imageFailedText(name),
      });
      return false;
    }
    if (info.state === "SNAPSHOTTING" || (image && image.state === "PENDING") || (image && info.state === "STOPPING")) {
      this.stage.show("imaging", {
        icon: "spinner", tone: "wait", title: image ? words.makingImage(image.name) : words.makingAnImage,
        text: words.makingImageText,
        reason: image?.reason, steps: steps(image?.state === "AVAILABLE" ? 2 : 1),
      });
      return false;
    }
    const reason = info.reason;
    switch (info.state) {
      case "STOPPING":
        this.stage.show("waiting", { icon: "power", tone: "calm", title: words.stopping(name), text: words.diskKept, reason });
        break;
      case "STOPPED":
        this.stage.show("waiting", { icon: "power", tone: "calm", title: words.stopped(name), text: words.stoppedText, reason });
        break;
      case "FAILED":
        this.stage.show("waiting", { icon: "alert", tone: "bad", title: words.failed(name), text: words.failedText, reason });
        break;
      case "DELETING":
        this.stage.show("waiting", { icon: "trash", tone: "calm", title: words.deleting(name), text: words.deletingText, reason });
        break;
      case "REBOOTING":
        this.stage.show("waiting", { icon: "spinner", tone: "wait", title: words.restarting(name), text: words.restartingText, reason });
        break;
      case "RUNNING": // without a display
        location.reload();
        return true;
      default:
        this.stage.show("waiting", { icon: "spinner", tone: "wait", title: words.starting(name), text: words.startingText, reason });
    }
    return false;

    function steps(done: number) {
      return words.imageSteps.map((text, n) => ({
        text: n === 1 && done === 1 ? words.imageStepNow : text,
        step: n < done ? ("done" as const) : n === done ? ("now" as const) : ("next" as const),
      }));
    }
  }
}

window.oriel.subject = (stage) => new Builder(stage);
