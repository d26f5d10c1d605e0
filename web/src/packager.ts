import { $ } from "./dom";
import { createPackage, words, type Info } from "./info";
import { Machine } from "./machine";
import type { Stage } from "./stage";

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
        problem.textContent = words(error);
        problem.hidden = false;
      } finally {
        submit.disabled = false;
      }
    };
  }

  protected follow(info: Info): boolean {
    const { name } = this.stage;
    const reason = info.reason;
    const block = info.appBlock?.name ?? "the app block";
    this.#dialog.close();
    if (info.packaging) {
      this.#asked = true;
      this.stage.show("imaging", {
        icon: "spinner", tone: "wait", title: `Making the package of ${block}`,
        text: "You can close this page; the package is made without it.", reason, steps: steps(1),
      });
      return false;
    }
    switch (info.state) {
      case "STOPPING":
        if (this.#asked && !reason) {
          this.stage.show("imaging", { icon: "spinner", tone: "wait", title: `The package of ${block} is made`, text: `${name} is stopping.`, steps: steps(2) });
          break;
        }
        this.stage.show("waiting", { icon: "power", tone: "calm", title: `${name} is stopping`, text: "Its machine goes, with what was installed on it.", reason });
        break;
      case "STOPPED":
        if (this.#asked && !reason) {
          this.stage.show("ended", {
            icon: "check", tone: "good", title: `The package of ${block} is ready`,
            text: `It is ${info.appBlock?.package ?? "in its bucket"}. ${name} is stopped; you can close this page.`, steps: steps(3),
          });
          break;
        }
        this.stage.show("waiting", { icon: "power", tone: "calm", title: `${name} is stopped`, text: "When someone starts it, the desktop of a new machine opens here by itself.", reason });
        break;
      case "RUNNING": // without a display
        location.reload();
        return true;
      default:
        this.#asked = false;
        this.stage.show("waiting", { icon: "spinner", tone: "wait", title: `${name} is starting`, text: "The desktop opens by itself as soon as it is ready.", reason });
    }
    return false;

    function steps(done: number) {
      return ["Desktop closed", "Package written", "App block builder stopped"].map((text, n) => ({
        text: n === 1 && done === 1 ? "Writing the package" : text,
        step: n < done ? ("done" as const) : n === done ? ("now" as const) : ("next" as const),
      }));
    }
  }
}

window.oriel.subject = (stage) => new Packager(stage);
