import { $ } from "./dom";
import { createPackage, type Info } from "./info";
import { Machine } from "./machine";
import type { Stage } from "./stage";
import { why, words } from "./words";

/** An app block builder in the viewer: the package of its app block can be made of it. */
class Packager extends Machine {
  #dialog = $<HTMLDialogElement>("package");
  #asked = false;

  constructor(stage: Stage) {
    super(stage);
    const submit = $<HTMLButtonElement>("package-submit");
    const problem = $("package-error");
    $("create").onclick = () => {
      problem.hidden = true;
      this.#dialog.showModal();
    };
    $("package-cancel").onclick = $("package-back").onclick = () => this.#dialog.close();
    this.#dialog.addEventListener("close", () => stage.focus());
    $<HTMLFormElement>("package-form").onsubmit = async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        await createPackage();
        this.#asked = true;
        this.#dialog.close();
      } catch (error) {
        problem.textContent = why(error);
        problem.hidden = false;
      } finally {
        submit.disabled = false;
      }
    };
  }

  protected follow(info: Info): boolean {
    const { name } = this.stage;
    const reason = info.reason;
    const block = info.appBlock?.name ?? words.theAppBlock;
    this.#dialog.close();
    if (info.packaging) {
      this.#asked = true;
      this.stage.show("imaging", {
        icon: "spinner", tone: "wait", title: words.makingPackage(block),
        text: words.makingPackageText, reason, steps: steps(1),
      });
      return false;
    }
    switch (info.state) {
      case "STOPPING":
        if (this.#asked && !reason) {
          this.stage.show("imaging", { icon: "spinner", tone: "wait", title: words.packageMade(block), text: words.packageMadeText(name), steps: steps(2) });
          break;
        }
        this.stage.show("waiting", { icon: "power", tone: "calm", title: words.stopping(name), text: words.packageStopping, reason });
        break;
      case "STOPPED":
        if (this.#asked && !reason) {
          this.stage.show("ended", {
            icon: "check", tone: "good", title: words.packageReady(block),
            text: words.packageReadyText(info.appBlock?.package ?? words.inItsBucket, name), steps: steps(3),
          });
          break;
        }
        this.stage.show("waiting", { icon: "power", tone: "calm", title: words.stopped(name), text: words.packageStopped, reason });
        break;
      case "RUNNING": // without a display
        location.reload();
        return true;
      default:
        this.#asked = false;
        this.stage.show("waiting", { icon: "spinner", tone: "wait", title: words.starting(name), text: words.startingText, reason });
    }
    return false;

    function steps(done: number) {
      return words.packageSteps.map((text, n) => ({
        text: n === 1 && done === 1 ? words.packageStepNow : text,
        step: n < done ? ("done" as const) : n === done ? ("now" as const) : ("next" as const),
      }));
    }
  }
}

window.oriel.subject = (stage) => new Packager(stage);
