/** Gives the element of an ID, which the page (viewer.html) has. */
export function $<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element ${id}`);
  return element as T;
}

/** Makes an element with the given properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Gives a copy of an icon, which the page has in its template "icons". */
export function icon(name: string): Node {
  const found = $<HTMLTemplateElement>("icons").content.querySelector(`[data-icon=${name}] svg`);
  if (!found) throw new Error(`the page has no icon ${name}`);
  return found.cloneNode(true);
}

/** Makes a button that is only an icon. */
export function tool(name: string, label: string, run: () => void): HTMLButtonElement {
  const button = make("button", { type: "button", className: "tool", title: label, onclick: run }, icon(name));
  button.setAttribute("aria-label", label);
  return button;
}

/** Has screen readers say something when they come to it. */
export function say(text: string): void {
  $("said").textContent = text;
}

/** Removes an element. If the focus is in it, it goes on to another one instead of being lost. */
export function discard(element: Element, heir: HTMLElement): void {
  const had = element.contains(document.activeElement);
  element.remove();
  if (had) heir.focus();
}

/** Puts other rows into a list. One in which a question waits for its answer stays as it is, if there is one of its name again. */
export function relist(list: HTMLElement, rows: HTMLElement[]): void {
  const asking = new Map([...list.querySelectorAll<HTMLElement>(".asking")].map((row) => [row.dataset["name"], row]));
  const next = rows.map((row) => asking.get(row.dataset["name"]) ?? row);
  for (const row of [...list.children]) if (!next.includes(row as HTMLElement)) row.remove();
  next.forEach((row, n) => list.children[n] !== row && list.insertBefore(row, list.children[n] ?? null));
}

/** Waits until nothing in a list is being pressed: browsers make a click only of what is there from the press to the release. */
export async function released(list: HTMLElement): Promise<void> {
  while (list.matches(":active")) await pause(20);
}

export const pause = (ms: number, signal?: AbortSignal) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/** Remembers small choices in the browser, where it lets us. */
export const memory = {
  get(key: string): string | null {
    try {
      return localStorage.getItem(`oriel.${key}`);
    } catch {
      return null;
    }
  },
  set(key: string, value: string): void {
    try {
      localStorage.setItem(`oriel.${key}`, value);
    } catch {
      // Then it is not remembered.
    }
  },
};
