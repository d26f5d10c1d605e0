// Drives a browser for the Go tests: reads commands from standard input, one JSON object a line, and answers each in a line.
// Package stage has the other side.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const patience = 60_000;

/** name → {context, page, problems} */
const pages = new Map();

async function pageOf(name) {
  if (pages.has(name)) return pages.get(name);
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, permissions: ["clipboard-read", "clipboard-write"] });
  context.setDefaultTimeout(patience);
  const p = { context, page: await context.newPage(), problems: [], host: "" };
  context.on("weberror", (e) => p.problems.push(`error in the page: ${e.error().stack}`));
  context.on("request", (r) => {
    const url = new URL(r.url());
    if (p.host && url.host !== p.host && url.protocol !== "data:") p.problems.push(`a request to a third party: ${r.url()}`);
  });
  pages.set(name, p);
  return p;
}

const commands = {
  async open(p, { url }) {
    p.host = new URL(url).host;
    const response = await p.page.goto(url);
    return response.status();
  },

  async state(p, { want }) {
    const found = await p.page
      .waitForFunction((w) => w.includes(document.documentElement.dataset.state) && document.documentElement.dataset.state, want)
      .catch(async () => {
        const is = await p.page.evaluate(() => [document.documentElement.dataset.state, document.getElementById("veil-title")?.textContent]);
        throw new Error(`the viewer is ${is}, not ${want}`);
      });
    return found.jsonValue();
  },

  async firstFrame(p) {
    await p.page.waitForFunction(() => performance.getEntriesByName("oriel:first-frame").length > 0);
    return p.page.evaluate(() => performance.getEntriesByName("oriel:first-frame")[0].startTime);
  },

  async picture(p) {
    const seen = await p.page.evaluate(() => {
      const c = document.querySelector("#desktop canvas");
      const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
      const colours = new Set();
      let bright = 0;
      let sum = 0;
      for (let i = 0; i < data.length; i += 4) {
        if (data[i] + data[i + 1] + data[i + 2] > 600) bright++;
        const rgb = (data[i] << 16) | (data[i + 1] << 8) | data[i + 2];
        if (colours.size < 1000) colours.add(rgb);
        sum = (Math.imul(sum, 31) + rgb) | 0;
      }
      return { Width: c.width, Height: c.height, Bright: bright, Colours: colours.size, sum };
    });
    const { sum, ...picture } = seen;
    return { ...picture, Hash: createHash("sha256").update(String(sum)).digest("hex").slice(0, 16) };
  },

  async type(p, { text }) {
    await p.page.keyboard.type(text, { delay: 4 });
  },

  async screenshot(p, { file }) {
    await p.page.screenshot({ path: file });
  },

  async text(p, { selector }) {
    return (await p.page.textContent(selector)) ?? "";
  },

  async click(p, { selector }) {
    await p.page.mouse.move(640, 3);
    await p.page.click(selector);
  },

  async fill(p, { selector, text }) {
    await p.page.fill(selector, text);
  },

  async paste(p, { text }) {
    // As a person does it: into the viewer's panel, and in the terminal the keys for paste.
    await p.page.mouse.move(640, 3);
    await p.page.click("[data-panel=clipboard]");
    await p.page.fill("#clipboard-text", text);
    await p.page.mouse.click(640, 400); // closes the panel, and is on the terminal
    await p.page.waitForFunction(() => document.activeElement?.tagName === "CANVAS");
    await p.page.keyboard.press("Control+Shift+V");
  },

  async attribute(p, { selector, name }) {
    return (await p.page.getAttribute(selector, name)) ?? "";
  },

  async close(p, { page }) {
    pages.delete(page);
    await p.context.close();
    return p.problems;
  },
};

const answer = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, page, ...args } = JSON.parse(line);
  // Pages are independent of one another, so nobody waits for another page's command.
  (async () => commands[name](await pageOf(page), { page, ...args }))().then(
    (value) => answer({ id, value: value ?? null }),
    (error) => answer({ id, error: String(error.message ?? error) }),
  );
}
await browser.close();
