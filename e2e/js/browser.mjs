// Drives a browser for the Go tests: reads commands from standard input, one JSON object a line, and answers each in a line.
// Package stage has the other side.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const patience = 60_000;
const browser = await chromium.launch({
  timeout: patience,
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** name → {context, page, problems, states} */
const pages = new Map();

async function pageOf(name, options = {}) {
  if (pages.has(name)) return pages.get(name);
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, permissions: ["clipboard-read", "clipboard-write"], ...options });
  context.setDefaultTimeout(patience);
  const p = { context, page: await context.newPage(), problems: [], states: [], host: "" };
  await context.exposeBinding("tellState", (_, state) => void p.states.push(state));
  await context.addInitScript(() =>
    new MutationObserver(() => window.tellState(document.documentElement.dataset.state)).observe(document, { subtree: true, attributeFilter: ["data-state"] }),
  );
  context.on("weberror", (e) => p.problems.push(`error in the page: ${e.error().stack}`));
  context.on("request", (r) => {
    const url = new URL(r.url());
    if (p.host && url.host !== p.host && url.protocol !== "data:") p.problems.push(`a request to a third party: ${r.url()}`);
  });
  pages.set(name, p);
  return p;
}

/** Brings the toolbar and presses what is in it. */
async function press(page, selector) {
  await page.mouse.move(640, 3);
  await page.click(selector);
}

const commands = {
  async context() {
    // pageOf has made it.
  },

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

  async forgetStates(p) {
    p.states.length = 0;
  },

  async passed(p, { want }) {
    for (const end = Date.now() + patience; !p.states.some((state) => want.includes(state)); await new Promise((r) => setTimeout(r, 20))) {
      if (Date.now() > end) throw new Error(`the viewer has been ${p.states.join(", ") || "in no other state"}, not ${want}`);
    }
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
    await press(p.page, selector);
  },

  async press(p, { keys }) {
    await p.page.keyboard.press(keys);
  },

  async value(p, { selector }) {
    return p.page.inputValue(selector);
  },

  async address(p) {
    return p.page.url();
  },

  async shown(p, { selector, shown }) {
    await p.page.locator(selector).first().waitFor({ state: shown ? "visible" : "hidden" });
  },

  async launch(p, { application }) {
    // Without windows the home screen comes by itself, when that is known.
    await p.page.waitForFunction(() => !document.getElementById("home").hidden || !document.getElementById("windows-count").hidden);
    if (await p.page.isHidden("#home")) await press(p.page, "#home-tool");
    await p.page.click(`#apps [data-name="${application}"]`);
    await p.page.waitForSelector("#home", { state: "hidden" });
    await p.page.mouse.click(640, 400);
    await p.page.waitForFunction(() => document.activeElement?.id === "typing");
  },

  async desk(p) {
    await p.page.mouse.click(1100, 500); // beside panels, which it closes, and notices
    await p.page.waitForFunction(() => document.activeElement?.id === "typing");
  },

  async select(p) {
    // Two clicks make a word only when nothing comes between them for a moment too long.
    await p.page.mouse.move(12, 400);
    await p.page.mouse.down();
    await p.page.mouse.move(900, 400);
    await p.page.mouse.up();
  },

  async upload(p, { name, text }) {
    await press(p.page, "[data-panel=files]");
    await p.page.waitForSelector("#files-upload", { state: "visible" }); // whose script is there
    await p.page.setInputFiles("#files-pick", { name, mimeType: "application/octet-stream", buffer: Buffer.from(text) });
    await p.page.waitForSelector(`#files-list [data-name="${name}"]`);
    await p.page.keyboard.press("Escape");
  },

  async download(p, { panel, selector }) {
    if (panel && (await p.page.isHidden(`#${panel}`))) await press(p.page, `[data-panel=${panel}]`);
    const [file] = await Promise.all([p.page.waitForEvent("download"), p.page.click(selector)]);
    const text = readFileSync(await file.path(), "utf8");
    if (panel) await p.page.keyboard.press("Escape");
    return { Name: file.suggestedFilename(), Text: text };
  },

  async fill(p, { selector, text }) {
    await p.page.fill(selector, text);
  },

  async paste(p, { text }) {
    // As a person does it: into the viewer's panel, and in the terminal the keys for paste.
    await press(p.page, "[data-panel=clipboard]");
    await p.page.fill("#clipboard-text", text);
    await p.page.mouse.click(640, 400); // closes the panel, and is on the terminal
    await p.page.waitForFunction(() => document.activeElement?.id === "typing");
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
  (async () => commands[name](await pageOf(page, args.options), { page, ...args }))().then(
    (value) => answer({ id, value: value ?? null }),
    (error) => answer({ id, error: String(error.message ?? error) }),
  );
}
await browser.close();
