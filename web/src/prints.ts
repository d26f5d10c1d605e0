import { $, icon, make, released, relist, tool } from "./dom";
import { ask } from "./files";
import { date, size } from "./form";
import type { Room } from "./panels";
import { getPrints, printAddress, removePrint, type Print, type Rules } from "./seat";
import { Watch } from "./watch";
import { why, words } from "./words";

/** The documents that programs of the session have printed: each is offered as it comes, and kept in the files' panel. */
export class Prints {
  #watch = new Watch(getPrints, (news) => this.#take(news.prints ?? []));
  #last: Print[] = [];
  #known: Set<string> | undefined; // undefined before the first answer, whose documents are no news

  constructor(private room: Room) {}

  tell(rules: Rules): void {
    $("prints").hidden = !rules.print;
  }

  resume(): void {
    this.#watch.start();
  }

  rest(): void {
    this.#watch.stop();
  }

  #take(prints: Print[]): void {
    for (const print of prints) {
      if (!this.#known || this.#known.has(print.id)) continue;
      this.room.notices.show(`print-${print.id}`, {
        icon: "print", tone: "good", text: words.printed(print.title), lasts: 60_000, action: { text: words.download, href: printAddress(print.id) },
      });
    }
    this.#known = new Set(prints.map((print) => print.id));
    $("prints-none").hidden = prints.length > 0;
    void this.#paint(prints);
  }

  async #paint(prints: Print[]): Promise<void> {
    const list = $("prints-list");
    this.#last = prints;
    await released(list);
    if (prints !== this.#last) return; // there are newer ones
    const focused = list.contains(document.activeElement);
    relist(
      list,
      [...prints].sort((a, b) => Date.parse(b.printed) - Date.parse(a.printed)).map((print) => {
        const text = make("span", { className: "row-text" }, make("bdi", {}, print.title), make("small", {}, `${size(print.size)} · ${date(print.printed)}`));
        const link = make("a", { className: "row-main", href: printAddress(print.id), download: "", title: words.download },
          make("span", { className: "picture" }, icon("print")), text);
        const row = make("li", { className: "row" }, link);
        row.dataset["name"] = print.id;
        row.append(tool("trash", words.removePrint(print.title), () => ask(row, words.removePrintAsk(print.title), words.remove, () => this.#remove(print))));
        return row;
      }),
    );
    if (focused && !list.contains(document.activeElement)) (list.querySelector<HTMLElement>("a") ?? $("files")).focus();
  }

  async #remove(print: Print): Promise<void> {
    try {
      await removePrint(print.id);
      this.room.notices.drop(`print-${print.id}`);
    } catch (error) {
      this.room.notices.show("print", { icon: "alert", tone: "bad", text: why(error), lasts: 7000 });
    }
  }
}
