import { $ } from "./dom";
import { createImage, getApplications, Refusal, type Application } from "./info";
import { why, words } from "./words";

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
      this.#complain("name", name ? words.imageNameWrong : words.imageNameMissing);
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
      this.#complain((error instanceof Refusal && error.field) || "", why(error));
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
    hint.textContent = words.askingMachine;
    hint.hidden = false;
    $("catalogue").replaceChildren();
    let list: Application[];
    try {
      list = await getApplications();
    } catch {
      hint.textContent = words.catalogueSilent;
      return;
    }
    hint.hidden = list.length > 0;
    if (list.length === 0) {
      const command = document.createElement("code");
      command.textContent = "sudo AppStreamImageAssistant add-application";
      const { before, after } = words.catalogueEmpty;
      hint.replaceChildren(before, command, after);
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
