import { $, discard, icon, make, say, tool } from "./dom";
import { size } from "./form";
import { refusal } from "./info";
import type { Notices } from "./notices";
import { fileAddress, type Folder } from "./seat";
import { why, words } from "./words";

/** The longest file that can be sent, in bytes: agentapi.MaxFile. */
const longest = 2 ** 31;

/** What the uploads ask of the panel that they are shown in. */
interface Place {
  /** Whether it is to be seen. */
  open(): boolean;
  /** The folder that it shows. */
  folder(): Folder | undefined;
  /** Is told when something has come into a folder. */
  done(path: string): void;
}

interface Upload {
  path: string; // of the folder
  name: string;
  file: globalThis.File;
  row: HTMLElement;
}

/** The files on their way to the session, one after the other: a browser has few connections to one server. */
export class Uploads {
  #queue: Upload[] = [];
  #current: { upload: Upload; request: XMLHttpRequest } | null = null;
  #finished = 0; // since the queue was empty the last time

  constructor(private notices: Notices, private place: Place) {
    addEventListener("beforeunload", (event) => this.#current && event.preventDefault());
  }

  /** Takes up files for a folder. For those whose names are there already it asks. */
  add(path: string, files: globalThis.File[]): void {
    for (const file of files) {
      const upload: Upload = { path, name: file.name, file, row: make("li", { className: "row" }) };
      $("uploads").append(upload.row);
      const folder = this.place.folder();
      if (file.size > longest) {
        this.#fail(upload, words.tooLarge(file.name, size(longest)), false);
      } else if (folder && folder.path === path && folder.free > 0 && file.size > folder.free) {
        this.#fail(upload, words.noRoom(file.name, size(file.size), size(folder.free)), false);
      } else if (this.#taken(upload)) {
        this.#ask(upload);
      } else {
        this.#enqueue(upload);
      }
    }
    $("uploads").scrollIntoView({ block: "nearest" });
  }

  #taken({ path, name }: Upload): boolean {
    const folder = this.place.folder();
    return (folder?.path === path && folder.files?.some((file) => file.name === name)) ?? false;
  }

  #ask(upload: Upload): void {
    const go = (change: () => void) => () => (change(), this.#enqueue(upload));
    const button = (text: string, onclick: () => void) => make("button", { type: "button", className: "button", onclick }, text);
    upload.row.className = "row asking";
    upload.row.replaceChildren(
      make("span", { className: "row-text", role: "alert" }, make("bdi", {}, words.taken(upload.name))),
      button(words.replace, go(() => undefined)),
      button(words.keepBoth, go(() => (upload.name = this.#free(upload)))),
      tool("close", words.doNotUpload(upload.name), () => this.#remove(upload)),
    );
  }

  /** Finds a name that is not taken: "report (2).pdf". */
  #free(upload: Upload): string {
    const [, stem = upload.name, ending = ""] = /^(.+?)((?:\.tar)?\.[^.]*)?$/s.exec(upload.name) ?? [];
    for (let n = 2; ; n++) {
      const name = `${stem} (${n})${ending}`;
      const going = [...this.#queue, ...(this.#current ? [this.#current.upload] : [])];
      if (!this.#taken({ ...upload, name }) && !going.some((other) => other.path === upload.path && other.name === name)) return name;
    }
  }

  #enqueue(upload: Upload): void {
    const answered = upload.row.contains(document.activeElement);
    upload.row.className = "row";
    upload.row.replaceChildren(
      make("span", { className: "picture" }, icon("upload")),
      make("span", { className: "row-text" }, make("bdi", {}, upload.name), make("small", {}, words.waiting)),
      tool("close", words.cancelUpload(upload.name), () => this.#cancel(upload)),
    );
    if (answered) upload.row.querySelector("button")?.focus();
    this.#queue.push(upload);
    this.#next();
  }

  #next(): void {
    if (this.#current) return;
    const upload = this.#queue.shift();
    if (upload) {
      this.#send(upload);
      return;
    }
    if (this.#finished > 0 && !this.place.open()) {
      this.notices.show("uploads", { icon: "check", tone: "good", text: words.allUploaded(this.#finished), lasts: 6000 });
    }
    this.#finished = 0;
  }

  /** Sends one. Of the browser's ways only this one tells how far it is. */
  #send(upload: Upload): void {
    const request = new XMLHttpRequest();
    const { row, file, name } = upload;
    this.#current = { upload, request };
    const bar = make("progress", { max: Math.max(1, file.size), value: 0 });
    bar.setAttribute("aria-label", words.uploadOf(name));
    const state = make("small", {}, size(file.size));
    row.querySelector(".row-text")?.replaceChildren(make("bdi", {}, name), bar, state);
    const began = performance.now();
    request.upload.onprogress = ({ loaded }) => {
      bar.value = loaded;
      const seconds = (performance.now() - began) / 1000;
      state.textContent = words.progress(size(loaded), size(file.size)) + (seconds > 1 ? ` · ${words.perSecond(size(loaded / seconds))}` : "");
    };
    request.upload.onload = () => (state.textContent = words.storing);
    request.onloadend = () => {
      this.#current = null;
      if (request.status >= 200 && request.status < 300) this.#succeed(upload);
      else if (request.status > 0) this.#fail(upload, why(refusal(request.status, parsed(request.responseText))), request.status >= 500 && request.status !== 507);
      else if (!row.isConnected) this.place.done(upload.path); // cancelled
      else this.#fail(upload, words.brokeOff(name), true);
      this.#next();
    };
    request.open("PUT", fileAddress(upload.path ? `${upload.path}/${name}` : name));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.send(file);
  }

  #succeed(upload: Upload): void {
    this.#finished++;
    upload.row.querySelector(".picture")?.replaceChildren(icon("check"));
    upload.row.classList.add("done");
    upload.row.querySelector("small")?.replaceChildren(words.uploaded);
    upload.row.querySelector("progress")?.remove();
    const cancel = upload.row.querySelector(".tool");
    if (cancel) discard(cancel, $("files-upload"));
    say(upload.row.querySelector(".row-text")?.textContent ?? "");
    setTimeout(() => upload.row.remove(), 4000);
    this.place.done(upload.path);
  }

  #fail(upload: Upload, message: string, retry: boolean): void {
    upload.row.className = "row failed";
    upload.row.replaceChildren(
      make("span", { className: "picture" }, icon("alert")),
      make("span", { className: "row-text", role: "alert" }, make("bdi", {}, message)),
      ...(retry ? [make("button", { type: "button", className: "button", onclick: () => this.#enqueue(upload) }, words.tryAgain)] : []),
      tool("close", words.dismiss, () => this.#remove(upload)),
    );
    if (!this.place.open()) this.notices.show("uploads", { icon: "alert", tone: "bad", text: message, lasts: 12_000 });
  }

  #remove(upload: Upload): void {
    discard(upload.row, $("files-upload"));
  }

  #cancel(upload: Upload): void {
    this.#remove(upload);
    this.#queue = this.#queue.filter((other) => other !== upload);
    if (this.#current?.upload === upload) this.#current.request.abort();
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
