import { $ } from "./dom";
import { createImage, getApplications, Refusal, type Application } from "./info";

/** The form that has an image made. The stream ends when it has been accepted. */
export class ImageForm {
  /** The image that was asked for here, if any. */
  asked: string | undefined;

  #dialog = $<HTMLDialogElement>("image");
  #form = $<HTMLFormElement>("image-form");
  #submit = $<HTMLButtonElement>("image-submit");

  /** back gives the keyboard back to the desktop. */
  constructor(back: () => void) {
    $("create").onclick = () => this.open();
    $("image-cancel").onclick = $("image-back").onclick = () => this.#dialog.close();
    this.#dialog.addEventListener("close", back);
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      void this.#send();
    };
    this.#form.oninput = (event) => this.#complain((event.target as HTMLInputElement).name, "");
  }

  open(): void {
    this.#dialog.showModal();
    $("image-name").focus();
    void this.#list();
  }

  close(): void {
    this.#dialog.close();
  }

  async #send(): Promise<void> {
    const field = (name: string) => (this.#form.elements.namedItem(name) as HTMLInputElement).value.trim();
    const name = field("name");
    this.#complain("", "");
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$/.test(name)) {
      this.#complain("name", name ? "Use letters, digits, dots, hyphens and underscores, beginning with a letter or digit." : "An image needs a name.");
      return;
    }
    this.#submit.disabled = true;
    try {
      await createImage({
        name,
        displayName: field("displayName"),
        description: field("description"),
        useLatestAgentVersion: (this.#form.elements.namedItem("useLatestAgentVersion") as HTMLInputElement).checked,
      });
      this.asked = name;
      this.#dialog.close();
    } catch (error) {
      if (error instanceof Refusal) this.#complain(error.field ?? "", error.message);
      else this.#complain("", "The server cannot be reached. Check your network and try again.");
    } finally {
      this.#submit.disabled = false;
    }
  }

  /** Shows a message at a field, or below the form for none; an empty one takes it away. */
  #complain(field: string, message: string): void {
    const banner = $("image-error");
    const input = field ? document.getElementById(`image-${field}`) : null;
    if (!input) {
      banner.textContent = message;
      banner.hidden = !message;
      return;
    }
    $(`image-${field}-error`).textContent = message;
    if (message) {
      input.setAttribute("aria-invalid", "true");
      input.focus();
    } else {
      input.removeAttribute("aria-invalid");
    }
  }

  async #list(): Promise<void> {
    const hint = $("catalogue-hint");
    hint.textContent = "Asking the machine…";
    hint.hidden = false;
    $("catalogue").replaceChildren();
    let list: Application[];
    try {
      list = await getApplications();
    } catch {
      hint.textContent = "The machine did not tell which applications are in its catalogue.";
      return;
    }
    hint.hidden = list.length > 0;
    if (list.length === 0) {
      const command = document.createElement("code");
      command.textContent = "sudo AppStreamImageAssistant add-application";
      hint.replaceChildren("None in the catalogue yet. Add what users shall start with ", command, " in a terminal of the desktop.");
    }
    $("catalogue").replaceChildren(
      ...list.map((application) => {
        const item = document.createElement("li");
        if (application.icon) {
          const icon = document.createElement("img");
          icon.src = application.icon;
          icon.alt = "";
          item.append(icon);
        }
        item.append(application.displayName);
        return item;
      }),
    );
  }
}
