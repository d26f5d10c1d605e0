import { $, icon, make, released, relist, tool } from "./dom";
import { date, number, size } from "./form";
import type { Room } from "./panels";
import { fileAddress, getFolder, makeFolder, removeFile, type File, type Folder, type Rules } from "./seat";
import { Uploads } from "./uploads";
import { why, words } from "./words";

/** The panel with the session's folder: its files go to this computer and come from it. */
export class Files {
  #panel = $<HTMLDialogElement>("files");
  #rules: Rules | undefined;
  #path = ""; // of the folder that is shown
  #wanted = ""; // of the one that was asked for last
  #folder: Folder | undefined;
  #asked = new AbortController();
  #uploads: Uploads;

  constructor(private room: Room) {
    this.#uploads = new Uploads(room.notices, {
      open: () => this.#panel.open,
      folder: () => this.#folder,
      done: (path) => path === this.#path && void this.#list(),
    });
    new MutationObserver(() => this.#panel.open && void this.#list()).observe(this.#panel, { attributes: true, attributeFilter: ["open"] });
    addEventListener("focus", () => this.#panel.open && !this.#panel.querySelector("#files-list .asking") && void this.#list());
    $("files-again").onclick = () => void this.#list();

    const pick = $<HTMLInputElement>("files-pick");
    $("files-upload").onclick = () => pick.click();
    pick.onchange = () => {
      this.#uploads.add(this.#path, [...(pick.files ?? [])]);
      pick.value = "";
    };
    const form = $<HTMLFormElement>("files-new-form");
    $("files-new").onclick = () => {
      form.hidden = false;
      $("files-new-name").focus();
    };
    $("files-new-back").onclick = () => ((form.hidden = true), $("files-new").focus());
    form.onsubmit = (event) => {
      event.preventDefault();
      void this.#make();
    };
    form.onkeydown = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      event.preventDefault();
      form.hidden = true;
      $("files-new").focus();
    };
    this.#drop();
  }

  tell(rules: Rules): void {
    this.#rules = rules;
    const files = rules.upload || rules.download;
    $("files-part").hidden = !files;
    $("files-title").classList.toggle("unseen", files); // the path says it
    $("files-title").textContent = files ? words.files : words.printedDocuments;
    $("prints-title").hidden = !files;
    $("files-upload").hidden = $("files-new").hidden = !rules.upload;
    const drop = matchMedia("(pointer: fine)").matches ? words.dropHint : "";
    $("files-hint").textContent = !rules.upload ? words.noUpload : rules.download ? drop : `${drop} ${words.noDownload}`.trim();
    if (this.#panel.open && !this.#folder) void this.#list(); // it was opened before this script was there
  }

  async #list(path = this.#wanted): Promise<void> {
    if ($("files-part").hidden) return;
    this.#wanted = path;
    this.#asked.abort();
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    let folder: Folder;
    try {
      folder = await getFolder(path, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#wanted = this.#path;
      this.#complain(why(error));
      return;
    }
    await released($("files-list"));
    if (signal.aborted) return;
    if (path !== this.#path) for (const row of $("files-list").querySelectorAll(".asking")) row.classList.remove("asking"); // about another folder's files
    this.#path = path;
    this.#folder = folder;
    this.#complain("");
    this.#paint(folder);
  }

  #paint(folder: Folder): void {
    const files = folder.files ?? [];
    $("files-free").textContent = folder.free > 0 ? words.free(size(folder.free)) : "";
    $("files-none").hidden = files.length > 0;
    $("files-more").hidden = !folder.more;
    $("files-more").textContent = words.onlyTheFirst(number(files.length));
    const focused = document.activeElement?.closest<HTMLElement>("#files-list [data-name]")?.dataset["name"];
    const list = $("files-list");
    relist(list, files.map((file) => this.#row(file)));
    if (focused !== undefined && !list.contains(document.activeElement)) {
      const row = [...list.children].find((item) => (item as HTMLElement).dataset["name"] === focused);
      (row?.querySelector<HTMLElement>("button, a") ?? $("files-again")).focus();
    }

    const parts = this.#path ? this.#path.split("/") : [];
    const within = $("crumbs").contains(document.activeElement);
    $("crumbs").replaceChildren(
      ...[words.files, ...parts].map((name, n) => {
        const here = n === parts.length;
        const crumb = make("button", { type: "button", className: "crumb", onclick: () => void this.#list(parts.slice(0, n).join("/")) }, make("bdi", {}, name));
        if (here) crumb.setAttribute("aria-current", "page");
        return make("li", {}, crumb);
      }),
    );
    if (within) $("crumbs").querySelector<HTMLElement>("[aria-current]")?.focus();
    $("crumbs").scrollLeft = $("crumbs").scrollWidth;
  }

  #row(file: File): HTMLElement {
    const path = this.#below(file.name);
    const text = make("span", { className: "row-text" }, make("bdi", {}, file.name),
      make("small", {}, [file.folder ? "" : size(file.size), date(file.modified)].filter(Boolean).join(" · ")));
    const picture = make("span", { className: "picture" }, icon(file.folder ? "folder" : "file"));
    const main = file.folder
      ? make("button", { type: "button", className: "row-main", onclick: () => void this.#list(path) }, picture, text)
      : this.#rules?.download
        ? make("a", { className: "row-main", href: fileAddress(path), download: file.name, title: words.download }, picture, text)
        : make("span", { className: "row-main" }, picture, text);
    const row = make("li", { className: "row" }, main);
    row.dataset["name"] = file.name;
    if (!file.folder && this.#rules?.download) {
      const link = make("a", { className: "tool", href: fileAddress(path), download: file.name, title: words.downloadFile(file.name) }, icon("download"));
      link.setAttribute("aria-label", words.downloadFile(file.name));
      row.append(link);
    }
    if (this.#rules?.upload) {
      row.append(tool("trash", words.deleteFile(file.name), () => {
        ask(row, (file.folder ? words.deleteFolderAsk : words.deleteFileAsk)(file.name), words.delete, () => this.#remove(path));
      }));
    }
    return row;
  }

  async #remove(path: string): Promise<void> {
    let fault = "";
    try {
      await removeFile(path);
    } catch (error) {
      fault = why(error);
    }
    await this.#list();
    if (fault) this.#complain(fault);
    this.#goOn("files-again");
  }

  async #make(): Promise<void> {
    const field = $<HTMLInputElement>("files-new-name");
    const name = field.value.trim();
    const fault = !name ? words.folderNameMissing : name.includes("/") || name === "." || name === ".." ? words.folderNameWrong : "";
    if (fault) {
      this.#complain(fault);
      field.focus();
      return;
    }
    try {
      await makeFolder(this.#below(name));
    } catch (error) {
      this.#complain(why(error));
      field.focus();
      return;
    }
    field.value = "";
    $("files-new-form").hidden = true;
    await this.#list();
    this.#goOn("files-new");
  }

  /** Gives the focus to a button after an answer that took its time, unless somebody is at something else already. */
  #goOn(button: string): void {
    const at = document.activeElement;
    if (!at?.checkVisibility() || at === document.body || at === this.#panel || $("files-list").contains(at)) $(button).focus();
  }

  #below(name: string): string {
    return this.#path ? `${this.#path}/${name}` : name;
  }

  #complain(text: string): void {
    $("files-error").textContent = text;
    $("files-error").hidden = !text;
  }

  /** Takes files that are dropped, wherever that is. */
  #drop(): void {
    const shade = $("drop");
    const carries = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const show = (on: boolean) => (shade.hidden = !on);
    addEventListener("dragover", (event) => {
      if (!carries(event) || !event.dataTransfer) return;
      event.preventDefault(); // or the browser would leave the page for the file
      const allowed = this.#rules?.upload && !document.querySelector("dialog.sheet[open]");
      event.dataTransfer.dropEffect = allowed ? "copy" : "none";
      if (allowed) {
        const folder = this.#path.split("/").pop();
        $("drop-text").textContent = folder ? words.dropInto(folder) : words.drop;
        show(true);
      }
    });
    addEventListener("dragleave", (event) => event.relatedTarget === null && show(false));
    addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      show(false);
      if (!this.#rules?.upload) return;
      const items = [...(event.dataTransfer?.items ?? [])].filter((item) => item.kind === "file");
      const files = items.filter((item) => !item.webkitGetAsEntry()?.isDirectory).map((item) => item.getAsFile()).filter((file) => file !== null);
      if (!this.#panel.open) this.room.stage.toolbar.open(this.#panel, document.querySelector<HTMLButtonElement>("[data-panel=files]")!);
      this.#uploads.add(this.#path, files);
      if (files.length < items.length) this.#complain(words.noFolders);
    });
  }
}

/** Asks in a row itself before something is done that cannot be undone. */
export function ask(row: HTMLElement, question: string, yes: string, run: () => Promise<void>): void {
  const before = [...row.childNodes];
  const back = () => {
    row.classList.remove("asking");
    row.replaceChildren(...before);
    row.querySelector<HTMLElement>("button:last-of-type")?.focus();
  };
  const keep = make("button", { type: "button", className: "button", onclick: back }, words.keep);
  let doing = false;
  const go = async (event: MouseEvent) => {
    if (doing || event.detail > 1) return; // a double click has not read the question
    doing = true;
    await run();
    doing = false;
  };
  row.classList.add("asking");
  row.replaceChildren(
    make("span", { className: "row-text", role: "alert" }, make("bdi", {}, question)),
    keep,
    make("button", { type: "button", className: "button danger", onclick: (event) => void go(event) }, yes),
  );
  row.onkeydown = (event) => {
    if (event.key !== "Escape" || !row.classList.contains("asking")) return;
    event.stopPropagation();
    event.preventDefault();
    back();
  };
  keep.focus();
}
