// Looks for English on pages that are in another language: the texts of the catalogues, the scripts' and the gateway's.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { build } from "esbuild";

const gap = "\u0001";

/** Gives the texts of a language, with gaps where something stands in them. */
async function texts(code) {
  const { outputFiles } = await build({ entryPoints: [`src/words/${code}.ts`], bundle: true, format: "esm", write: false, target: "node20" });
  globalThis.window = { oriel: {} };
  await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
  const list = [];
  const add = (value) => {
    if (typeof value === "string") list.push(value);
    // A list of a gap is a gap as well where a text is wanted.
    else if (typeof value === "function") add(value(...Array.from({ length: value.length }, () => [gap])));
    else for (const one of Object.values(value)) add(one);
  };
  add(globalThis.window.oriel.words);
  const go = readFileSync(`../internal/gateway/words/words_${code}.go`, "utf8");
  for (const [, text] of go.matchAll(/^\t"\w+":\s*(".*"),$/gm)) list.push(JSON.parse(text).replace(/%(\[\d+\])?[a-z]/g, gap));
  return list;
}

const others = new Set(await texts("de"));
const english = (await texts("en")).filter((text) => !others.has(text) && /\p{L}{2}/u.test(text)).map((text) => ({
  text,
  // Its parts in this order, and nothing else, but for what stands in the gaps.
  pattern: new RegExp(`^${text.split(gap).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*")}$`, "s"),
  words: text.split(gap).map((part) => part.trim()).filter((part) => /\p{L}+ \p{L}+ \p{L}+/u.test(part)),
}));
assert.ok(english.length > 250, `there are only ${english.length} texts`);

/** Everything on a page that is or can be read, also what is hidden just now, but not what it marks as English. */
const read = (page) =>
  page.evaluate(() => {
    const list = [document.title];
    const walk = (node) => {
      if (node.nodeType === Node.TEXT_NODE) list.push(node.textContent);
      if (node.nodeType !== Node.ELEMENT_NODE || node.lang === "en" || ["SCRIPT", "STYLE"].includes(node.tagName)) return;
      for (const name of ["aria-label", "aria-valuetext", "title", "placeholder", "alt", "data-tip"]) list.push(node.getAttribute(name) ?? "");
      for (const child of node.childNodes) walk(child);
    };
    walk(document.body);
    return list.map((text) => text.trim()).filter((text) => /\p{L}{2}/u.test(text));
  });

/** Fails when a page says something in English. */
export async function notEnglish(page, where) {
  for (const said of await read(page)) {
    const found = english.find(({ pattern, words }) => pattern.test(said) || words.some((part) => said.includes(part)));
    assert.ok(!found, `${where}: the page says “${said}”`);
  }
}
