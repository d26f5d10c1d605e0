// Looks at a real desktop through a real browser. TestBrowser in internal/gateway starts it and answers at ORIEL_CONTROL.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";
import { barriers } from "./access.mjs";
import { heard, passes, prepare, until, views } from "./views.mjs";
import { notEnglish } from "./words.mjs";

const control = (what) => fetch(`${process.env.ORIEL_CONTROL}/${what}`).then((r) => r.text());
const shots = process.env.ORIEL_SCREENSHOTS;
if (shots) mkdirSync(shots, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const problems = [];

async function context(options = {}) {
  const c = await browser.newContext({ viewport: { width: 1280, height: 720 }, ...options });
  await prepare(c);
  c.on("weberror", (e) => problems.push(`error in the page: ${e.error().stack}`));
  c.on("console", (m) => {
    // Connections that fail are what some of the tests are about; the browser and noVNC tell of them.
    if (m.type() === "error" && !/WebSocket connection|Failed to load resource|^Failed (when|while) connect|^Got data while disconnected/.test(m.text())) problems.push(`console: ${m.text()}`);
  });
  c.on("request", (r) => {
    const url = new URL(r.url());
    if (!["127.0.0.1"].includes(url.hostname) && url.protocol !== "data:") problems.push(`a request to a third party: ${r.url()}`);
  });
  return c;
}

const state = (page, want) =>
  page.waitForFunction((s) => document.documentElement.dataset.state === s, want).catch(async () => {
    assert.fail(`the page is ${await page.evaluate(() => document.documentElement.dataset.state)}, not ${want}`);
  });
const shot = async (page, name) => {
  await page.waitForTimeout(450); // animations
  if (shots) await page.screenshot({ path: `${shots}/${name}.png` });
};
/** Holds a page to what every page is held to. */
const look = async (page, name) => problems.push(...(await barriers(page, name)));
/** How many pixels of the desktop are bright, as the text of the terminal is. */
const bright = (page) =>
  page.evaluate(() => {
    const c = document.querySelector("#desktop canvas");
    const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
    let n = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i] + data[i + 1] + data[i + 2] > 600) n++;
    return n;
  });
/** How many there are when the picture has come to rest. */
const settled = async (page) => {
  let n;
  await until("a picture that stays", async () => {
    n = await bright(page);
    await page.waitForTimeout(300);
    return n === (await bright(page));
  });
  return n;
};
const canvasSize = (page) => page.evaluate(() => [document.querySelector("#desktop canvas").width, document.querySelector("#desktop canvas").height]);
const terminal = async (page) => {
  await page.mouse.move(400, 300);
  await page.mouse.click(400, 300);
};
/** Puts a text into the clipboard of the desktop. xclip stays to serve it. */
const xclip = (text) => {
  const p = spawn("xclip", ["-selection", "clipboard", "-i"], { stdio: ["pipe", "ignore", "ignore"], detached: true });
  p.stdin.end(text);
  p.unref();
};
/** What the desktop's clipboard has; undefined while nobody has it, or he does not say. */
const xpaste = () => {
  try {
    return execFileSync("xclip", ["-selection", "clipboard", "-o"], { timeout: 2000, stdio: ["ignore", "pipe", "ignore"] }).toString();
  } catch {
    return undefined;
  }
};

const tests = {
  async "the streaming URL opens the desktop"(t) {
    const began = Date.now();
    await t.page.goto(await control("url"));
    await state(t.page, "connected");
    assert.match(t.page.url(), /\/stream\/ib-1$/, "the ticket is gone from the address bar");
    const first = await t.page.evaluate(() => performance.getEntriesByName("oriel:first-frame")[0].startTime);
    console.log(`first frame ${Math.round(first)} ms after navigation, ${Date.now() - began} ms by the clock`);
    await until("the terminal", async () => (await bright(t.page)) > 10);
    assert.equal(await t.page.title(), "hello – Oriel");
    await shot(t.page, "desktop-1280x720");
  },

  async "the desktop takes the window's size"(t) {
    for (const [width, height, size = `${width},${height}`] of [[1920, 1080], [600, 900, "640,960"], [844, 390, "1039,480"], [1280, 720]]) {
      await t.page.setViewportSize({ width, height });
      await until(`a desktop of ${size}`, async () => String(await canvasSize(t.page)) === size);
      await until("it fills the window", async () => Math.round((await t.page.locator("#desktop canvas").boundingBox()).width) === width);
      await t.page.mouse.move(width / 2, 4);
      await shot(t.page, `desktop-${width}x${height}`);
    }
  },

  async "typing changes the picture"(t) {
    await terminal(t.page); // its title changes colour when it gets the focus
    const before = await settled(t.page);
    await t.page.keyboard.type("echo Hello from the browser", { delay: 5 });
    await until("more text", async () => (await bright(t.page)) > before + 400);
    await t.page.keyboard.press("Enter");
  },

  async "an input method writes in the terminal"(t) {
    const keys = await t.context.newCDPSession(t.page);
    await terminal(t.page);
    await t.page.keyboard.type("printf '", { delay: 5 });
    for (const text of ["ni", "nih", "你好"]) await keys.send("Input.imeSetComposition", { text, selectionStart: text.length, selectionEnd: text.length });
    await keys.send("Input.insertText", { text: "你好" });
    await t.page.keyboard.insertText("жé");
    await t.page.keyboard.type("' | xclip -selection clipboard\n", { delay: 5 });
    await until("what was composed", () => xpaste() === "你好жé");
  },

  async "the clipboard goes both ways"(t) {
    xclip("from the desktop ✓ ä");
    await t.page.mouse.move(640, 3);
    await t.page.click("[data-panel=clipboard]");
    await until("the desktop's text in the panel", () => t.page.inputValue("#clipboard-text").then((v) => v === "from the desktop ✓ ä"));
    await until("the desktop's text in the browser", () => t.page.evaluate(() => navigator.clipboard.readText()).then((v) => v === "from the desktop ✓ ä"));
    await shot(t.page, "panel-clipboard");
    await t.page.fill("#clipboard-text", "from the panel €");
    await until("the panel's text on the desktop", () => xpaste() === "from the panel €");
    await t.page.keyboard.press("Escape");
    await t.page.evaluate(() => navigator.clipboard.writeText("from this computer"));
    await t.page.evaluate(() => dispatchEvent(new Event("focus")));
    await until("this computer's text on the desktop", () => xpaste() === "from this computer");
  },

  async "keys that the browser keeps can be sent"(t) {
    await terminal(t.page);
    await t.page.mouse.move(640, 3);
    await t.page.click("[data-panel=keyboard]");
    await shot(t.page, "panel-keyboard");
    await t.page.fill("#type-text", "printf 'Tpd %s' 'äß' | xclip -selection clipboard\n");
    await t.page.click("#type button");
    await until("what was typed", () => xpaste() === "Tpd äß");
    // A held Ctrl makes the next key Ctrl+C, which ends cat.
    await t.page.fill("#type-text", "cat\n");
    await t.page.click("#type button");
    await t.page.click("[data-hold=control]");
    assert.equal(await t.page.getAttribute("[data-hold=control]", "aria-pressed"), "true");
    await t.page.fill("#type-text", "c");
    await t.page.click("#type button");
    await t.page.click("[data-hold=control]");
    await t.page.fill("#type-text", "printf ended | xclip -selection clipboard\n");
    await t.page.click("#type button");
    await until("the shell after Ctrl+C", () => xpaste() === "ended");
    await t.page.keyboard.press("Escape");
  },

  async "the desktop can be scaled or shown in its own size"(t) {
    await t.page.mouse.move(640, 3);
    await t.page.click("[data-panel=display]");
    await look(t.page, "panel-display");
    await until("the desktop as it was", async () => String(await canvasSize(t.page)) === "1280,720");
    await t.page.check("input[value=scale]");
    await t.page.setViewportSize({ width: 640, height: 480 });
    await until("the desktop in the smaller window", async () => {
      const { width, height } = await t.page.locator("#desktop canvas").boundingBox();
      return Math.round(width) === 640 && Math.round(height) === 360;
    });
    await t.page.waitForTimeout(300);
    assert.deepEqual(await canvasSize(t.page), [1280, 720], "it keeps its own size");
    await t.page.check("input[value=actual]");
    await until("the actual size", async () => Math.round((await t.page.locator("#desktop canvas").boundingBox()).width) === 1280);
    await t.page.check("input[value=window]");
    await until("the window's size", async () => String(await canvasSize(t.page)) === "640,480");
    await t.page.setViewportSize({ width: 1280, height: 720 });
    await until("the window's size", async () => String(await canvasSize(t.page)) === "1280,720");
    await t.page.keyboard.press("Escape");
  },

  async "fullscreen"(t) {
    await t.page.mouse.move(640, 3);
    await t.page.click("#fullscreen");
    await until("fullscreen", () => t.page.evaluate(() => document.fullscreenElement !== null));
    await until("the pressed button", () => t.page.getAttribute("#fullscreen", "aria-pressed").then((v) => v === "true"));
    await t.page.mouse.move(640, 3);
    await t.page.click("#fullscreen");
    await until("the window", () => t.page.evaluate(() => document.fullscreenElement === null));
  },

  async "the toolbar leaves and comes"(t) {
    await terminal(t.page);
    await until("an empty edge", () => t.page.evaluate(() => document.getElementById("edge").dataset.shown === "false"));
    await shot(t.page, "toolbar-hidden");
    const middle = t.page.viewportSize().width / 2;
    await t.page.mouse.move(middle, 40);
    await t.page.mouse.move(middle, 1);
    await until("the toolbar at the edge, and nothing of the desktop above it", () =>
      t.page.evaluate((x) => document.elementFromPoint(x, 1).id === "bar" && document.elementFromPoint(x, 7).id === "bar", middle),
    );
    await t.page.mouse.move(middle, 400);
    await until("an empty edge again", () => t.page.evaluate(() => document.getElementById("edge").dataset.shown === "false"));
    await t.page.keyboard.press("Control+Alt+Shift+KeyM");
    await until("the toolbar", () => t.page.evaluate(() => document.getElementById("edge").dataset.shown === "true"));
    assert.equal(await t.page.evaluate(() => document.activeElement.dataset.panel), "clipboard");
    await t.page.keyboard.press("ArrowRight");
    assert.equal(await t.page.evaluate(() => document.activeElement.dataset.panel), "keyboard");
    await t.page.keyboard.press("Escape");
    assert.equal(await t.page.evaluate(() => document.activeElement.id), "typing");
    await t.page.keyboard.type("printf loose | xclip -selection clipboard\n"); // no key is held down on the desktop
    await until("what was typed", () => xpaste() === "loose");
  },

  async "a dropped connection comes back with the same desktop"(t) {
    const before = await settled(t.page);
    await passes(t.page, "reconnecting", () => control("drop"));
    await state(t.page, "connected");
    await until("the same picture", async () => Math.abs((await bright(t.page)) - before) < 300);
    await passes(t.page, "reconnecting", () => control("sever"));
    await state(t.page, "connected");
    await terminal(t.page);
    await t.page.keyboard.type("#");
  },

  async "a machine that is away is waited for"(t) {
    await control("down?is=true");
    await state(t.page, "reconnecting");
    await t.page.waitForSelector("#veil-action:not([hidden])");
    await shot(t.page, "reconnecting");
    // The pauses between the attempts get longer. The next long one does not end by itself, so that it is the press that ends it.
    await t.page.evaluate(() => {
      window.wait = setTimeout;
      window.setTimeout = (run, ms, ...rest) => window.wait(run, ms > 4000 ? (window.paused = 2 ** 30) : ms, ...rest);
    });
    await until("a longer pause between attempts", () => t.page.evaluate(() => window.paused > 0));
    await heard(t.page, "veil-text", /in [56] s/);
    await control("down?is=false");
    await t.page.click("#veil-action");
    await state(t.page, "connected");
    await t.page.evaluate(() => (window.setTimeout = window.wait));
  },

  async "a network without a word is noticed"(t) {
    await control("freeze?is=true");
    await t.context.setOffline(true);
    const began = Date.now();
    await state(t.page, "reconnecting");
    console.log(`noticed after ${Date.now() - began} ms`);
    await until("the word offline", () => t.page.textContent("#veil-text").then((v) => /offline/.test(v)));
    await shot(t.page, "offline");
    await control("freeze?is=false");
    await t.context.setOffline(false);
    await state(t.page, "connected");
  },

  async "a reboot is waited for"(t) {
    await control("state?is=REBOOTING");
    await state(t.page, "waiting");
    assert.match(await t.page.textContent("#veil-title"), /hello is restarting/);
    await shot(t.page, "rebooting");
    await control("state?is=RUNNING");
    await state(t.page, "connected");
  },

  async "a stopped builder comes back when it is started"(t) {
    await control("state?is=STOPPING");
    await state(t.page, "waiting");
    await control("state?is=STOPPED");
    await until("the news", () => t.page.textContent("#veil-title").then((v) => v === "hello is stopped"));
    await look(t.page, "stopped");
    await t.page.reload();
    await until("the page of a stopped builder", () => t.page.getAttribute("body", "data-code").then((v) => v === "stopped"));
    await look(t.page, "page-stopped");
    await control("state?is=PENDING");
    await until("the page of a starting builder", () => t.page.getAttribute("body", "data-code").then((v) => v === "starting"));
    await look(t.page, "page-starting");
    await control("state?is=RUNNING");
    await state(t.page, "connected");
  },

  async "an image is made"(t) {
    await t.page.mouse.move(640, 3);
    await t.page.click("#create");
    await until("the catalogue", () => t.page.textContent("#catalogue").then((v) => v.includes("Mousepad")));
    await t.page.click("#image-submit");
    assert.match(await t.page.textContent("#image-name-error"), /needs a name/);
    await t.page.fill("#image-name", "-no");
    await t.page.click("#image-submit");
    assert.match(await t.page.textContent("#image-name-error"), /Use letters/);
    assert.equal(await t.page.getByRole("textbox", { name: "Name", exact: true }).count(), 1, "what is wrong with a name is not part of what it is called");
    await t.page.fill("#image-name", "taken");
    await t.page.click("#image-submit");
    await until("the server's word", () => t.page.textContent("#image-name-error").then((v) => /of that name already/.test(v)));
    await look(t.page, "create-image-refused");
    const named = t.page.getByRole("textbox", { name: "Name", exact: true }); // what is wrong is no part of that
    assert.deepEqual([await named.getAttribute("aria-describedby"), await named.getAttribute("aria-invalid")], ["image-name-error", "true"]);
    await t.page.fill("#image-name", "office-2026-11");
    await t.page.fill("#image-displayName", "Office");
    await t.page.fill("#image-description", "Debian with the office programs");
    await look(t.page, "create-image");
    await t.page.click("#image-submit");
    await state(t.page, "imaging");
    await until("the image's name", () => t.page.textContent("#veil-title").then((v) => /Making the image office-2026-11/.test(v)));
    await look(t.page, "imaging");
    await control("image?is=AVAILABLE");
    await control("state?is=STOPPED");
    await state(t.page, "ended");
    assert.match(await t.page.textContent("#veil-title"), /The image office-2026-11 is ready/);
    await look(t.page, "image-ready");
    await control("state?is=RUNNING");
  },

  async "in German nothing is English"() {
    const c = await context({ locale: "de-DE" });
    const page = await c.newPage();
    const says = (selector, pattern) => until(`${pattern} in ${selector}`, async () => pattern.test((await page.textContent(selector).catch(() => "")) ?? ""));
    await page.goto((await control("url")).slice(0, -2));
    await says("h1", /Dieser Link ist nicht gültig/);
    await notEnglish(page, "a link that is not valid");
    await page.goto(await control("url"));
    await state(page, "connected");
    await page.mouse.move(640, 3);
    await page.click("[data-panel=display]");
    await says("#details", /Erstellt aus/);
    await notEnglish(page, "the display panel");
    await page.click("#create");
    await says("#catalogue", /Mousepad/);
    await page.click("#image-submit");
    await says("#image-name-error", /braucht einen Namen/);
    await page.fill("#image-name", "taken");
    await page.click("#image-submit");
    await says("#image-name-error", /Ein Image dieses Namens gibt es schon/);
    await notEnglish(page, "the form");
    await shot(page, "create-image-de");
    await page.fill("#image-name", "office-2026-11");
    await page.click("#image-submit");
    await says("#veil-title", /Das Image office-2026-11 wird erstellt/);
    await notEnglish(page, "an image is made");
    await control("image?is=AVAILABLE");
    await control("state?is=STOPPED");
    await says("#veil-title", /Das Image office-2026-11 ist fertig/);
    await notEnglish(page, "the image is ready");
    await control("state?is=RUNNING");
    await page.goto(await control("url"));
    await state(page, "connected");
    for (const [is, title] of [["STOPPING", /wird gestoppt/], ["STOPPED", /ist gestoppt/], ["FAILED", /ist ausgefallen/], ["DELETING", /wird gelöscht/], ["REBOOTING", /startet neu/], ["PENDING", /startet/]]) {
      await control(`state?is=${is}`);
      await says("#veil-title", title);
      await notEnglish(page, is);
    }
    await control("state?is=RUNNING");
    await state(page, "connected");
    await control("state?is=STOPPED");
    await says("#veil-title", /hello ist gestoppt/);
    await page.reload();
    await says("h1", /hello ist gestoppt/);
    await notEnglish(page, "the page of a stopped builder");
    await page.click("text=English"); // a page without the viewer offers the languages too
    await says("h1", /hello is stopped/);
    await control("state?is=RUNNING");
    await state(page, "connected");
    await c.close();
  },

  async "disconnecting ends the session"(t) {
    await t.page.goto(await control("url"));
    await state(t.page, "connected");
    await t.page.mouse.move(640, 3);
    await t.page.click("#leave");
    await state(t.page, "ended");
    await look(t.page, "disconnected");
    await t.page.reload();
    assert.equal(await t.page.getAttribute("body", "data-code"), "session");
    await look(t.page, "page-session");
    await t.page.goto((await control("url")).slice(0, -2));
    assert.equal(await t.page.getAttribute("body", "data-code"), "invalid");
    await look(t.page, "page-invalid");
  },

  async "a phone, with a fine screen and touch"() {
    const c = await context({ viewport: { width: 390, height: 780 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
    const page = await c.newPage();
    await page.addInitScript(() => localStorage.setItem("oriel.pin", "yes")); // the toolbar stays, however slow the fingers are
    await page.goto(await control("url"));
    await state(page, "connected");
    await until("a desktop of the phone's form", async () => String(await canvasSize(page)) === "640,1280");
    await page.tap("[data-panel=display]");
    await page.check("#fine");
    await until("a desktop as fine as the screen", async () => String(await canvasSize(page)) === "780,1560");
    await until("it fills the window", async () => Math.round((await page.locator("#desktop canvas").boundingBox()).width) === 390);
    await shot(page, "phone");
    await c.close();
  },

  async "without permission for the clipboard"() {
    const c = await context({ permissions: [] });
    const page = await c.newPage();
    await page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
    await page.goto(await control("url"));
    await state(page, "connected");
    xclip("only in the panel");
    await page.mouse.move(640, 3);
    await page.click("[data-panel=clipboard]");
    await until("the text in the panel", () => page.inputValue("#clipboard-text").then((v) => v === "only in the panel"));
    await c.close();
  },
};

const t = { context: await context({ permissions: ["clipboard-read", "clipboard-write"] }) };
t.page = await t.context.newPage();
let failed = 0;
for (const [name, run] of Object.entries(tests)) {
  const began = Date.now();
  try {
    await run(t);
    console.log(`ok    ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name} (${Date.now() - began} ms)\n${error.stack}\n${await views(browser)}`);
    if (shots) await t.page.screenshot({ path: `${shots}/failed-${failed}.png` }).catch(() => undefined);
  }
  for (const problem of problems.splice(0)) {
    failed++;
    console.log(`FAIL  ${name}: ${problem}`);
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
