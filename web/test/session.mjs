// Looks at a person's session through a real browser. TestSessionInBrowser in internal/web starts it, is the gateway at
// ORIEL_SERVER and does at ORIEL_CONTROL what happens behind the viewer's back. Arguments are parts of the tests' names.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { barriers, reach, through } from "./access.mjs";
import { gate, heard, passes, prepare, until, views } from "./views.mjs";
import { notEnglish } from "./words.mjs";

const control = (what, body) =>
  fetch(`${process.env.ORIEL_CONTROL}/${what}`, body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }).then((r) => r.text());
const behind = async () => JSON.parse(await control("state"));
const address = `${process.env.ORIEL_SERVER}/stream/s1`;
const local = mkdtempSync(join(tmpdir(), "oriel-"));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const problems = [];

async function context(options = {}) {
  const c = await browser.newContext({ viewport: { width: 1280, height: 720 }, colorScheme: "dark", timezoneId: "Europe/Helsinki", locale: process.env.ORIEL_LOCALE ?? "en-GB", permissions: ["clipboard-read", "clipboard-write"], ...options });
  await prepare(c);
  c.on("weberror", (e) => problems.push(`error in the page: ${e.error().stack}`));
  c.on("console", (m) => {
    if (m.type() === "error" && !/WebSocket connection|Failed to load resource|^Failed (when|while) connect|^Got data while disconnected/.test(m.text())) problems.push(`console: ${m.text()}`);
  });
  c.on("request", (r) => {
    const url = new URL(r.url());
    if (url.hostname !== "127.0.0.1" && url.protocol !== "data:") problems.push(`a request to a third party: ${r.url()}`);
  });
  return c;
}

const state = (page, want) =>
  page.waitForFunction((s) => document.documentElement.dataset.state === s, want).catch(async () => {
    assert.fail(`the page is ${await page.evaluate(() => document.documentElement.dataset.state)}, not ${want}`);
  });
const shown = (page, selector) => page.waitForSelector(selector, { state: "visible" });
const gone = (page, selector) => page.waitForSelector(selector, { state: "hidden" });
const text = (page, selector) => page.textContent(selector).then((t) => t.trim());
const says = async (page, selector, pattern) => {
  let said = "";
  await until("", async () => pattern.test((said = (await page.textContent(selector).catch(() => "")) ?? ""))).catch(() => assert.fail(`${selector} says “${said}”, not ${pattern}`));
};
const slip = (page, pattern) => heard(page, "notices", pattern);
/** Brings the toolbar and presses one of its buttons. */
const press = async (page, selector) => {
  await page.keyboard.press("Control+Alt+Shift+KeyM");
  await page.click(selector);
};
/** Opens a new session. */
const begin = async (page, view, info = {}, windows) => {
  await control(`reset?view=${view}`);
  await control("info", info);
  if (windows) await control("windows", windows);
  await page.goto(address);
  if (info.state !== "PENDING") await state(page, "connected");
};
/** Removes the session's files; gives what is behind the viewer. */
const empty = async () => {
  const now = await behind();
  for (const name of readdirSync(now.folder)) rmSync(join(now.folder, name), { recursive: true });
  return now;
};
/** Drops files onto the page, as from the computer's desktop. */
const drop = async (page, files) => {
  const data = await page.evaluateHandle((list) => {
    const transfer = new DataTransfer();
    for (const [name, content] of list) transfer.items.add(new File([content], name));
    return transfer;
  }, files);
  await page.dispatchEvent("body", "dragover", { dataTransfer: data });
  await page.dispatchEvent("body", "drop", { dataTransfer: data });
};

/** The keysyms of a text. */
const symbols = (text) => [...text].map((c) => (c.codePointAt(0) < 0x100 ? c.codePointAt(0) : 0x01000000 + c.codePointAt(0)));
/** Waits until exactly this was typed since the session began. */
const typed = (want) =>
  until(`the keys ${want}`, async () => String((await behind()).typed) === String(want)).catch(async () => assert.deepEqual((await behind()).typed, want));
const phone = { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

const editor = { id: 7, title: "letter.txt – Mousepad", application: "app-0", class: "mousepad", active: true };
const terminal = { id: 9, title: "grace@studio: ~", application: "app-2", class: "xterm" };

const theme = (Style) => ({
  Style, Title: "Example University", Logo: "/icons/logo.png", Favicon: "/icons/2.png",
  Links: [{ Text: "Help desk", URL: "https://example.com/help?a=1&b=2" }, { Text: "Opening hours", URL: "https://example.com/hours" }],
});

/** The contrast of a text with what is behind it, as WCAG measures it. */
const contrast = (page, selector) =>
  page.locator(selector).first().evaluate((element) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const luminance = (...colours) => {
      for (const colour of colours) {
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
      }
      const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = [];
    for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
    const [low, high] = [luminance(...behind), luminance(...behind, getComputedStyle(element).color)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });

const tests = {
  async "a theme has its title, logo, favicon, links and colours on every page of a session"(t) {
    await t.page.route("**/after", () => undefined); // nobody goes on while the end is looked at
    for (const colorScheme of ["dark", "light"]) {
      const colours = new Set();
      for (const style of ["", "red", "light-blue", "blue", "pink"]) {
        await t.page.emulateMedia({ colorScheme });
        await control("reset?view=APP");
        await control("theme", style ? theme(style) : {});
        await control("info", { state: "PENDING", feedbackURL: "https://example.com/feedback", redirectURL: `${process.env.ORIEL_SERVER}/after` });
        await t.page.goto(address);
        await says(t.page, "#veil-title", /Preparing/);
        const look = await t.page.evaluate(() => ({
          title: document.title, favicon: document.querySelector("link[rel=icon]").getAttribute("href").replace(/\?.*/, ""),
          links: [...document.querySelectorAll("#veil .links a")].map((a) => [a.textContent, a.href, a.target, a.rel]),
        }));
        if (!style) {
          assert.deepEqual(look, { title: "Design studio", favicon: "/assets/favicon.svg", links: [] });
          assert.equal(await t.page.locator(".brand").count(), 0);
        } else {
          assert.deepEqual(look, {
            title: "Example University", favicon: "/icons/2.png",
            links: [["Help desk", "https://example.com/help?a=1&b=2", "_blank", "noopener noreferrer"], ["Opening hours", "https://example.com/hours", "_blank", "noopener noreferrer"]],
          });
          await until("the logo", () => t.page.locator("#veil .brand").evaluate((logo) => logo.alt === "Example University" && logo.complete && logo.naturalWidth === 480));
          for (const selector of ["#veil .links a", "#veil-title"]) assert.ok((await contrast(t.page, selector)) >= 4.5, `${selector} in ${style}, ${colorScheme}`);
        }
        await control("info", { state: "ACTIVE" });
        await shown(t.page, "#home .app");
        assert.equal(await t.page.locator("#home .brand").count(), style ? 1 : 0);
        if (style) assert.ok((await contrast(t.page, "#home .links a")) >= 4.5, `links in ${style}, ${colorScheme}`);
        await control("info", { state: "EXPIRED", endCode: "user", reason: "You ended it." });
        await control("close?code=4011");
        await state(t.page, "ended");
        const strong = await contrast(t.page, "#veil .button.strong");
        colours.add(await t.page.locator("#veil .button.strong").evaluate((button) => getComputedStyle(button).backgroundColor));
        assert.ok(strong >= 4.5, `the button in ${style}, ${colorScheme} has a contrast of ${strong}`);
        if (style) await shown(t.page, "#veil .links");
      }
      assert.equal(colours.size, 5, `the buttons in ${colorScheme} are ${[...colours]}`);
    }
    await t.page.emulateMedia({ colorScheme: "dark" });
  },

  async "a session is used without a mouse"(t) {
    await control("reset?view=DESKTOP");
    await control("windows", [editor, terminal]);
    const { folder } = await behind();
    writeFileSync(join(folder, "letter.txt"), "Dear Grace");
    const { page } = t;
    await page.goto(address);
    await state(page, "connected");
    await says(page, "#said", /Desktop of Design studio/);
    const key = async (...keys) => {
      for (const name of keys) await page.keyboard.press(name);
    };
    const at = () => page.evaluate(() => document.activeElement.id || document.activeElement.dataset.panel || document.activeElement.className);
    const focus = (want) => until(`the focus on ${want}`, async () => (await at()) === want).catch(async () => assert.equal(await at(), want));
    // The desktop has all keys, Tab among them, and says how to leave it.
    await focus("typing");
    assert.match(await page.evaluate(() => document.getElementById(document.activeElement.getAttribute("aria-describedby")).textContent), /Ctrl Alt Shift M goes to the toolbar/);
    await heard(page, "greeting", /way/);
    await key("Tab");
    await typed([0xff09]);
    await focus("typing");
    // Every panel is opened, gone through, and closed. The focus is seen all the way, is kept nowhere, and comes back.
    await until("the rules", () => page.isVisible("[data-panel=files]"));
    await key("Control+Alt+Shift+KeyM");
    for (const name of ["applications", "windows", "clipboard", "keyboard", "display", "files", "sound", "leaving"]) {
      for (let n = 0; (await at()) !== name && n < 12; n++) await key("ArrowRight");
      await focus(name);
      await key("Enter");
      await page.waitForSelector(`dialog#${name}[open]`);
      if (name === "files") await shown(page, "#files-list .row");
      if (name === "windows") await shown(page, "#windows-list .row");
      const passed = await through(page, `#${name}`);
      assert.ok(passed.length > 0, `${name} has nothing that could have the focus`);
      await page.locator(`#${name} :is(button, a, input, textarea):visible`).first().focus();
      await key("Escape");
      await focus(name);
      await page.waitForSelector(`[data-panel=${name}][aria-expanded=false]`);
    }
    await key("Escape");
    await focus("typing");
    // A folder is made and deleted, and a volume set.
    const open = async (name) => {
      await key("Control+Alt+Shift+KeyM");
      for (let n = 0; (await at()) !== name && n < 12; n++) await key("ArrowRight");
      await key("Enter");
    };
    await open("files");
    await shown(page, "#files-list .row");
    await page.locator("#crumbs button").focus();
    const listed = page.waitForResponse(/\/folders\//);
    await key("Enter");
    await listed;
    await until("the focus on the folder", () => page.evaluate(() => document.activeElement.matches("#crumbs [aria-current]")));
    await reach(page, "New folder");
    await key("Enter");
    await page.keyboard.type("Letters");
    await key("Enter");
    await focus("files-new");
    await shown(page, "#files-list >> text=Letters");
    await reach(page, "Delete Letters");
    await key("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Keep");
    await key("Tab", "Enter");
    await focus("files-again");
    await gone(page, "#files-list >> text=Letters");
    await key("Escape");
    await open("sound");
    await reach(page, "Volume");
    const volume = Number(await page.inputValue("#sound-volume"));
    await key("ArrowLeft");
    assert.ok(Number(await page.inputValue("#sound-volume")) < volume);
    await key("Escape", "Escape");
    await focus("typing");
    // What is urgent is said at once, and Tab leads to it from the toolbar.
    await control("notice", { notice: "idle", in: 60 });
    await shown(page, "[role=alert] [data-slip=idle]");
    await key("Control+Alt+Shift+KeyM");
    await reach(page, "I am here");
    await key("Enter");
    await gone(page, "[data-slip=idle]");
    await focus("typing");
    // Away and back, and to the end.
    await open("leaving");
    await reach(page, /^Disconnect/);
    await key("Enter");
    await state(page, "ended");
    await says(page, "#said", /Everything on Design studio is still open/);
    await shown(page, "#veil-action");
    await focus("card");
    await reach(page, "Reconnect");
    await key("Enter");
    await state(page, "connected");
    await focus("typing");
    await open("leaving");
    await reach(page, /^End session/);
    await key("Enter");
    await focus("ending-back");
    await key("Escape");
    await focus("typing");
    await open("leaving");
    await reach(page, /^End session/);
    await key("Enter");
    await reach(page, "End session");
    await key("Enter");
    await says(page, "#said", /Your session has ended/);
    await focus("card");
    rmSync(join(folder, "letter.txt"));
  },

  async "a session opens with its stack's name, its rules and its time zone"(t) {
    await begin(t.page, "DESKTOP");
    assert.equal(await t.page.title(), "Design studio");
    assert.equal((await behind()).zone, "Europe/Helsinki");
    assert.equal(await t.page.locator("#create").count(), 0, "no image is made of a session");
    await shown(t.page, "[data-panel=files]:not([hidden])");
    await press(t.page, "[data-panel=display]");
    await says(t.page, "#details", /grace@example\.com/);
    await t.page.keyboard.press("Escape");
    await control("info", { rules: { copyIn: false, copyOut: false, upload: false, download: false, print: false } });
    await t.page.reload();
    await state(t.page, "connected");
    await until("the rules", () => t.page.evaluate(() => document.querySelector("#details").textContent.includes("grace")));
    assert.equal(await t.page.isVisible("[data-panel=clipboard]"), false);
    assert.equal(await t.page.isVisible("[data-panel=files]"), false);
  },

  async "a session is waited for"(t) {
    await begin(t.page, "DESKTOP", { state: "PENDING" });
    await says(t.page, "#veil-title", /Preparing Design studio/);
    await control("info", { reason: "The instance is being started." });
    await says(t.page, "#veil-reason", /being started/);
    await control("info", { state: "ACTIVE", reason: "" });
    await state(t.page, "connected");
  },

  async "a page whose scripts do not come is loaded again when they can"(t) {
    let away = true;
    await t.page.route(/viewer\.js/, (route) => (away ? route.abort() : route.fallback()));
    const asked = t.page.waitForEvent("requestfailed", { predicate: (r) => r.resourceType() === "fetch" });
    await control("reset?view=DESKTOP");
    await control("info", { state: "ACTIVE" });
    await t.page.goto(address);
    await asked;
    away = false;
    await state(t.page, "connected");
  },

  async "the catalogue is the home screen of the APP view"(t) {
    await begin(t.page, "APP");
    await shown(t.page, "#home .app");
    assert.equal(await t.page.locator("#home .app").count(), 5);
    assert.equal(await t.page.isVisible("#apps-find"), false, "few applications need no search");
    await until("the focus on the first application", () => t.page.evaluate(() => document.activeElement.dataset.name === "app-0"));
    await t.page.keyboard.press("ArrowRight");
    await t.page.keyboard.press("t"); // to the one that begins with it
    assert.equal(await t.page.evaluate(() => document.activeElement.dataset.name), "app-2");
    await t.page.route("**/launch", async (route) => {
      await shown(t.page, "[data-name=app-2][data-starting]"); // for as long as its window is not there
      await route.continue();
    });
    await t.page.keyboard.press("Enter");
    await gone(t.page, "#home");
    await t.page.unroute("**/launch");
    assert.equal(await text(t.page, "#windows-count"), "1");
    // Home and back, and another one.
    await press(t.page, "#home-tool");
    await shown(t.page, "[data-name=app-2][data-running]");
    await t.page.keyboard.press("Escape");
    await gone(t.page, "#home");
    await press(t.page, "#home-tool");
    await t.page.click("[data-name=app-0]");
    await gone(t.page, "#home");
    // The switcher.
    await press(t.page, "[data-panel=windows]");
    await until("two windows", async () => (await t.page.locator("#windows-list .row").count()) === 2);
    assert.match(await text(t.page, "#windows-list [aria-current]"), /Mousepad/);
    await t.page.click("#windows-list .row-main >> text=Terminal");
    await press(t.page, "[data-panel=windows]");
    await until("the other window", async () => /Terminal/.test(await text(t.page, "#windows-list [aria-current]")));
    await t.page.click("[aria-label^='Close Untitled – Mousepad']");
    await until("one window", async () => (await t.page.locator("#windows-list .row").count()) === 1);
    await t.page.click("#windows-list [aria-label^=Close]");
    await shown(t.page, "#home"); // the last window has closed
  },

  async "an application that was asked for opens without the catalogue"(t) {
    const asked = t.page.waitForRequest(/\/windows\?after=/); // the first answer has been taken up then
    await begin(t.page, "APP", { application: "app-2" });
    await asked;
    assert.equal(await t.page.isVisible("#home"), false);
    await control("windows", [terminal]);
    await until("its window", async () => (await text(t.page, "#windows-count")) === "1");
    assert.equal(await t.page.isVisible("#home"), false);
    await control("windows", []);
    await shown(t.page, "#home");
  },

  async "what is typed for a program starts no other"(t) {
    await begin(t.page, "APP", { application: "app-2" });
    const asked = [];
    t.page.on("request", (r) => r.url().endsWith("/launch") && asked.push(JSON.parse(r.postData()).application));
    await control("windows", [terminal]);
    await until("its window", async () => (await text(t.page, "#windows-count")) === "1");
    // Somebody types on for some seconds: the page's clock stands still for so long, however slow this test is.
    await t.page.evaluate(() => {
      const at = performance.now();
      performance.now = () => at;
    });
    await control("windows", []);
    await shown(t.page, "#home");
    await t.page.keyboard.type("to the terminal ", { delay: 5 });
    await t.page.keyboard.press("Enter");
    await t.page.evaluate(() => new Promise((r) => setTimeout(r, 0)));
    assert.deepEqual(asked, []);
    await t.page.evaluate(() => {
      const at = performance.now() + 60_000;
      performance.now = () => at;
    });
    await t.page.click("[data-name=app-0]");
    await t.page.keyboard.type("text ", { delay: 5 });
    await until("the launch", () => asked.length > 0);
    assert.deepEqual(asked, ["app-0"]);
  },

  async "a window takes the place of the home screen that nobody called"(t) {
    await begin(t.page, "APP", { application: "app-2" });
    const count = (n) => until(`${n} windows`, async () => ((await text(t.page, "#windows-count")) || "0") === String(n));
    await control("windows", [{ ...terminal, id: 90, title: "Loading…" }]); // the picture that a program shows while it starts
    await count(1);
    await control("windows", []);
    await shown(t.page, "#home");
    await control("windows", [terminal]);
    await gone(t.page, "#home");
    await press(t.page, "#home-tool");
    await control("windows", [terminal, editor]);
    await count(2);
    assert.equal(await t.page.isVisible("#home"), true, "who is looking for something else is not disturbed");
  },

  async "a session that has windows comes back to them"(t) {
    await begin(t.page, "APP", {}, [editor, terminal]);
    await until("the windows", async () => (await text(t.page, "#windows-count")) === "2");
    assert.equal(await t.page.isVisible("#home"), false);
  },

  async "a window that has a question before it closes is shown"(t) {
    await begin(t.page, "APP", {}, [{ ...editor, title: "*letter.txt – Mousepad", active: false }, { ...terminal, active: true }]);
    await press(t.page, "[data-panel=windows]");
    await t.page.click("[aria-label^='Close *letter.txt']");
    await gone(t.page, "#windows");
    await press(t.page, "[data-panel=windows]");
    await until("the changed letter in front", async () => /letter/.test(await text(t.page, "#windows-list [aria-current]")));
  },

  async "a window that has closed is not taken for one with a question, however late the news are"(t) {
    const asked = gate();
    await t.page.route(/\/windows\?after=/, async (route) => {
      const response = await route.fetch().catch(() => undefined);
      await asked.opened;
      if (response) await route.fulfill({ response }).catch(() => undefined);
    });
    await begin(t.page, "APP", {}, [editor, terminal]);
    await press(t.page, "[data-panel=windows]");
    await t.page.click("[aria-label^='Close letter.txt']");
    await t.page.waitForResponse(/\/windows$/);
    asked.open();
    await until("one window", async () => (await t.page.locator("#windows-list .row").count()) === 1);
    assert.equal(await t.page.isVisible("#windows"), true);
  },

  async "a press is not lost when the list changes before the release"(t) {
    await begin(t.page, "APP", {}, [{ ...editor, active: false }, { ...terminal, active: true }]);
    await press(t.page, "[data-panel=windows]");
    await t.page.hover("#windows-list >> text=letter.txt");
    await t.page.mouse.down();
    await control("windows", [editor, terminal, { id: 11, title: "top" }].map((w) => ({ ...w, title: `${w.title} *`, active: w.id === 9 })));
    await until("the news", async () => (await text(t.page, "#windows-count")) === "3");
    await t.page.mouse.up();
    await gone(t.page, "#windows");
    await press(t.page, "[data-panel=windows]");
    await until("the letter in front", async () => /letter\.txt .* \*/.test(await text(t.page, "#windows-list [aria-current]")));
  },

  async "the home screen closes no panel that somebody has opened"(t) {
    const held = gate();
    await t.page.route(/\/windows$/, async (route) => {
      await held.opened;
      await route.fallback();
    });
    await begin(t.page, "APP");
    await press(t.page, "[data-panel=clipboard]");
    await t.page.fill("#clipboard-text", "in the middle of ");
    held.open();
    await shown(t.page, "#home");
    await t.page.keyboard.type("it");
    assert.equal(await t.page.inputValue("#clipboard-text"), "in the middle of it");
    await control("windows", [terminal]);
    await gone(t.page, "#home");
    await t.page.keyboard.type(".");
    assert.equal(await t.page.inputValue("#clipboard-text"), "in the middle of it.");
  },

  async "a large catalogue can be searched"(t) {
    await begin(t.page, "APP", { apps: 16 });
    await shown(t.page, "#apps-search");
    await t.page.fill("#apps-search", "schalt FUR");
    await until("what is found", async () => (await t.page.locator(".app:visible").count()) === 1);
    await t.page.fill("#apps-search", "音楽");
    assert.equal(await t.page.locator(".app:visible").count(), 1);
    await t.page.fill("#apps-search", "nothing of the kind");
    await says(t.page, "#apps-none", /Nothing is called/);
  },

  async "a launch that fails says why"(t) {
    await begin(t.page, "APP");
    await t.page.route("**/launch", (route) => route.fulfill({ status: 409, json: { code: "launch", message: "Mousepad is not installed." } }));
    await t.page.click("[data-name=app-0]");
    await slip(t.page, /not installed/);
    assert.equal(await t.page.getAttribute("[data-name=app-0]", "data-starting"), null);
    await t.page.unroute("**/launch");
  },

  async "the desktop view has the catalogue in a panel"(t) {
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=applications]");
    await t.page.click("#applications [data-name=app-1]");
    await slip(t.page, /File Manager is starting/);
    await gone(t.page, "#applications");
  },

  async "an application that takes its time closes only its own panel"(t) {
    await begin(t.page, "DESKTOP");
    const held = gate();
    await t.page.route("**/launch", async (route) => {
      await held.opened;
      await route.fallback();
    });
    await press(t.page, "[data-panel=applications]");
    await t.page.click("#applications [data-name=app-1]");
    await press(t.page, "[data-panel=display]");
    held.open();
    await slip(t.page, /File Manager is starting/);
    assert.equal(await t.page.isVisible("#display"), true);
  },

  async "files go up and come down"(t) {
    await empty();
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=files]");
    await shown(t.page, "#files-none");
    const content = Buffer.from(Array.from({ length: 300_000 }, (_, n) => (n * 7 + (n >> 8)) & 255));
    writeFileSync(join(local, "résumé – 履歴書 100%#?.bin"), content);
    await t.page.setInputFiles("#files-pick", join(local, "résumé – 履歴書 100%#?.bin"));
    await shown(t.page, "#files-list >> text=履歴書");
    const download = t.page.waitForEvent("download");
    await t.page.click("#files-list a.row-main");
    assert.deepEqual(readFileSync(await (await download).path()), content);
    assert.equal((await download).suggestedFilename().normalize(), "résumé – 履歴書 100%#?.bin".normalize().replace(/[?]/, "_"));
    // A folder, and files dropped into it.
    await t.page.click("#files-new");
    await t.page.fill("#files-new-name", "Bilder/neu");
    await t.page.keyboard.press("Enter");
    await says(t.page, "#files-error", /slash/);
    await t.page.fill("#files-new-name", "Bilder & Töne");
    await t.page.keyboard.press("Enter");
    await t.page.click("#files-list >> text=Bilder & Töne");
    await says(t.page, "#crumbs", /Files.*Bilder & Töne/s);
    await drop(t.page, [["a.txt", "first"], ["b.tar.gz", "second"]]);
    await until("both files", async () => (await t.page.locator("#files-list .row").count()) === 2);
    // The same name again: keep both, replace, or leave it.
    await drop(t.page, [["b.tar.gz", "third"]]);
    await t.page.click("#uploads >> text=Keep both");
    await shown(t.page, "#files-list >> text=b (2).tar.gz");
    await drop(t.page, [["a.txt", "replaced"]]);
    await t.page.click("#uploads >> text=Replace");
    const { folder } = await behind();
    await until("the new content", () => readFileSync(join(folder, "Bilder & Töne", "a.txt"), "utf8") === "replaced");
    assert.equal(readFileSync(join(folder, "Bilder & Töne", "b.tar.gz"), "utf8"), "second");
    // Deleting asks, and can be thought better of.
    await t.page.click("[aria-label='Delete a.txt']");
    await t.page.click("#files-list >> text=Keep");
    await t.page.click("[aria-label='Delete a.txt']");
    await t.page.click("#files-list .danger");
    await until("one file less", async () => (await t.page.locator("#files-list .row").count()) === 2);
    await t.page.click("#crumbs >> text=Files");
    await shown(t.page, "#files-list >> text=履歴書");
  },

  async "an upload can be cancelled, and says when it fails"(t) {
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=files]");
    await control("slow?is=300000");
    writeFileSync(join(local, "large.bin"), Buffer.alloc(30_000_000));
    await shown(t.page, "#files-upload"); // whose script is there
    await t.page.setInputFiles("#files-pick", join(local, "large.bin"));
    await says(t.page, "#uploads", /of 30 MB/);
    await t.page.click("[aria-label='Cancel large.bin']");
    await gone(t.page, "#uploads .row");
    await control("slow?is=0");
    await control(`refuse?what=${encodeURIComponent("PUT /files/")}&words=${encodeURIComponent("The disk of the session is full.")}`);
    await drop(t.page, [["small.txt", "text"]]);
    await says(t.page, "#uploads .failed", /disk of the session is full/);
    await t.page.click("#uploads [aria-label=Dismiss]");
    await control("refuse");
    await drop(t.page, [["small.txt", "text"]]);
    await shown(t.page, "#files-list >> text=small.txt");
  },

  async "a folder is come to though the list is renewed meanwhile"(t) {
    const { folder } = await empty();
    mkdirSync(join(folder, "Letters"));
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=files]");
    const asked = gate();
    const renewed = gate();
    await t.page.route("**/folders/Letters", async (route) => {
      asked.open();
      await renewed.opened;
      await route.fallback();
    });
    await t.page.click("#files-list >> text=Letters");
    await asked.opened;
    const again = t.page.waitForRequest(/\/folders\//);
    await t.page.evaluate(() => dispatchEvent(new Event("focus"))); // the person was in another window
    await again;
    renewed.open();
    await says(t.page, "#crumbs", /Letters/);
  },

  async "two files of a name that is taken are both kept"(t) {
    const { folder } = await empty();
    writeFileSync(join(folder, "a.txt"), "old");
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=files]");
    await shown(t.page, "#files-list >> text=a.txt");
    await control("slow?is=1");
    await drop(t.page, [["a.txt", "the first"], ["a.txt", "the second"]]);
    await t.page.click("#uploads >> text=Keep both");
    await shown(t.page, "#uploads progress");
    await t.page.click("#uploads >> text=Keep both");
    await control("slow?is=0");
    await shown(t.page, "#files-list >> text=a (3).txt");
    assert.deepEqual(["a.txt", "a (2).txt", "a (3).txt"].map((name) => readFileSync(join(folder, name), "utf8")), ["old", "the first", "the second"]);
  },

  async "a double click deletes nothing, and nothing twice"(t) {
    const { folder } = await empty();
    writeFileSync(join(folder, "a.txt"), "old");
    const asked = [];
    const count = (r) => r.method() === "DELETE" && asked.push(r.url());
    t.page.on("request", count);
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=files]");
    await t.page.dblclick("[aria-label='Delete a.txt']");
    await shown(t.page, "#files-list >> text=Delete a.txt?");
    assert.equal(asked.length, 0);
    await t.page.dblclick("#files-list .danger");
    await shown(t.page, "#files-none");
    assert.equal(asked.length, 1);
    t.page.off("request", count);
  },

  async "a folder that cannot be read says why"(t) {
    await begin(t.page, "DESKTOP");
    await control(`refuse?what=${encodeURIComponent("GET /folders/")}&words=${encodeURIComponent("The session does not answer just now.")}`);
    await press(t.page, "[data-panel=files]");
    await says(t.page, "#files-error", /does not answer/);
    await control("refuse");
    await t.page.click("#files-again");
    await gone(t.page, "#files-error");
  },

  async "a panel that is opened before its script is there has its files"(t) {
    await empty();
    writeFileSync(join((await behind()).folder, "early.txt"), "early");
    await t.page.route("**/panels*.js*", async (route) => {
      await t.page.waitForSelector("dialog#files[open]");
      await route.continue();
    });
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=files]");
    await shown(t.page, "#files-list >> text=early.txt");
    await t.page.unroute("**/panels*.js*");
  },

  async "a question about a file stays while the list changes"(t) {
    const { folder } = await empty();
    for (const name of ["a.txt", "c.txt"]) writeFileSync(join(folder, name), "old");
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=files]");
    await t.page.click("[aria-label='Delete c.txt']");
    await shown(t.page, "#files-list >> text=Delete c.txt?");
    await drop(t.page, [["b.txt", "new"]]);
    await shown(t.page, "#files-list >> text=b.txt");
    assert.deepEqual(await t.page.locator("#files-list .row bdi").allTextContents(), ["a.txt", "b.txt", "Delete c.txt?"]);
    assert.equal(await t.page.evaluate(() => document.activeElement.textContent), "Keep");
    rmSync(join(folder, "c.txt")); // by a program of the session
    await drop(t.page, [["d.txt", "new"]]);
    await shown(t.page, "#files-list >> text=d.txt");
    assert.deepEqual(await t.page.locator("#files-list .row bdi").allTextContents(), ["a.txt", "b.txt", "d.txt"]);
    await t.page.click("[aria-label='Delete a.txt']");
    await control(`refuse?what=${encodeURIComponent("DELETE /files/")}&words=${encodeURIComponent("The folder cannot be written to.")}`);
    await t.page.click("#files-list .danger");
    await says(t.page, "#files-error", /cannot be written to/);
    await control("refuse");
    await t.page.click("#files-list .danger");
    await until("two files", async () => String(await t.page.locator("#files-list .row bdi").allTextContents()) === "b.txt,d.txt");
  },

  async "only what the rules allow is offered"(t) {
    await begin(t.page, "DESKTOP", { rules: { upload: false, print: false } });
    const { folder } = await behind();
    writeFileSync(join(folder, "report.pdf"), "%PDF");
    await press(t.page, "[data-panel=files]");
    await shown(t.page, "#files-list a >> text=report.pdf");
    assert.equal(await t.page.isVisible("#files-upload"), false);
    assert.equal(await t.page.isVisible("#prints"), false);
    assert.equal(await t.page.locator("[aria-label='Delete report.pdf']").count(), 0);
    await drop(t.page, [["no.txt", "no"]]);
    assert.equal(await t.page.locator("#uploads .row").count(), 0);
    await begin(t.page, "DESKTOP", { rules: { download: false } });
    await press(t.page, "[data-panel=files]");
    await shown(t.page, "#files-list >> text=report.pdf");
    assert.equal(await t.page.locator("#files-list a").count(), 0);
    await begin(t.page, "DESKTOP", { rules: { upload: false, download: false } });
    await press(t.page, "[data-panel=files]");
    await says(t.page, "#files-title", /^Printed documents$/);
    assert.equal(await t.page.isVisible("#files-part"), false);
  },

  async "a printed document is offered"(t) {
    await t.page.goto("about:blank");
    await until("the end of earlier questions", async () => (await behind()).waiting === 0);
    await begin(t.page, "DESKTOP");
    await until("a question for news", async () => (await behind()).waiting === 1);
    await control("prints", [{ id: "p1", title: "Rechnung 2026-11", size: 48_213, printed: new Date().toISOString() }]);
    await slip(t.page, /Rechnung 2026-11 was printed/);
    const download = t.page.waitForEvent("download");
    await t.page.click("#notices >> text=Download");
    assert.match(readFileSync(await (await download).path(), "utf8"), /%PDF-1.7 p1/);
    await gone(t.page, ".slip");
    await until("the desktop's focus", () => t.page.evaluate(() => document.activeElement.id === "typing"));
    await press(t.page, "[data-panel=files]");
    await shown(t.page, "#prints-list >> text=Rechnung");
    await t.page.click("#prints-list [aria-label^=Remove]");
    await t.page.click("#prints-list .danger");
    await shown(t.page, "#prints-none");
  },

  async "news that come after the picture are not missed"(t) {
    await t.page.goto("about:blank");
    await until("the end of earlier questions", async () => (await behind()).waiting === 0);
    await control("hold");
    try {
      await begin(t.page, "DESKTOP");
      await t.page.waitForFunction((panels) => performance.getEntriesByType("resource").some((r) => r.name.includes(panels) && r.responseEnd > 0), "panels");
    } finally {
      await control("release");
    }
    await until("a question for news", async () => (await behind()).waiting === 1);
  },

  async "notices are shown and go"(t) {
    await begin(t.page, "DESKTOP");
    await control("notice", { notice: "ending", in: 300 });
    await slip(t.page, /ends in 5 minutes.*[45]:\d\d/);
    assert.match(await text(t.page, "#ends"), /^[45]:\d\d$/);
    await t.page.click(".slip [aria-label=Dismiss]");
    await until("the desktop's focus", () => t.page.evaluate(() => document.activeElement.id === "typing"));
    await control("notice", { notice: "idle", in: 60 });
    await slip(t.page, /Is somebody here.*move the mouse or press a key to stay/);
    const { stirred } = await behind();
    await t.page.mouse.move(300, 300);
    await t.page.mouse.move(320, 310);
    await until("the moved mouse", async () => (await behind()).stirred > stirred);
    await control("notice", { notice: "active" });
    await gone(t.page, "[data-slip=idle]");
    await control("notice", { notice: "clipboard", direction: "out", reason: "length", max: 100 });
    await slip(t.page, /too long to be copied out of the session: at most 100 characters/);
  },

  async "what went wrong beside is told once"(t) {
    const script = "The session script /opt/appstream/SessionScripts/mount ended with exit status 3.";
    const changed = gate();
    let asked = 0;
    await t.page.route(/\/info$/, async (route) => {
      if (++asked === 2) await changed.opened; // it asks once more after a while
      await route.fallback();
    });
    await begin(t.page, "DESKTOP", { notes: [script] });
    await slip(t.page, /mount ended with exit status 3/);
    await t.page.click(".slip [aria-label=Dismiss]");
    await control("info", { notes: [script, "There is no application chess."] });
    changed.open();
    await slip(t.page, /no application chess/);
    assert.doesNotMatch(await text(t.page, "#notices"), /exit status/);
  },

  async "somebody on the home screen is not idle"(t) {
    await begin(t.page, "APP");
    await shown(t.page, "#home");
    await control("notice", { notice: "idle", in: 60 });
    await shown(t.page, "[data-slip=idle]");
    const { stirred } = await behind();
    await t.page.mouse.move(480, 390);
    await t.page.mouse.move(500, 400);
    await until("the moved mouse", async () => (await behind()).stirred > stirred);
  },

  async "the clipboard keeps to the rules"(t) {
    await begin(t.page, "DESKTOP", { rules: { copyOut: false, copyInMax: 10 } });
    await press(t.page, "[data-panel=clipboard]");
    await says(t.page, "#clipboard-hint", /At most 10 characters.*Nothing can be copied out/);
    assert.equal(await t.page.isVisible("#clipboard-copy"), false);
    await t.page.fill("#clipboard-text", "longer than ten");
    await slip(t.page, /too long to be copied into the session: at most 10/);
    await begin(t.page, "DESKTOP", { rules: { copyIn: false } });
    await press(t.page, "[data-panel=clipboard]");
    await until("a text that cannot be changed", () => t.page.evaluate(() => document.querySelector("#clipboard-text").readOnly));
  },

  async "an input method writes on the desktop"(t) {
    await begin(t.page, "DESKTOP");
    await t.page.mouse.click(400, 300);
    const keys = await t.context.newCDPSession(t.page);
    const compose = (text) => keys.send("Input.imeSetComposition", { text, selectionStart: text.length, selectionEnd: text.length });
    await t.page.keyboard.type("aä");
    await typed(symbols("aä"));
    for (const text of ["n", "に", "にほ", "にほん"]) await compose(text);
    await says(t.page, "#typing-draft", /^にほん$/); // and nothing of it is on the desktop
    await keys.send("Input.insertText", { text: "日本" });
    await t.page.keyboard.press("Enter");
    await typed([...symbols("aä日本"), 0xff0d]);
    assert.equal(await t.page.isVisible("#typing-draft"), false);
    // What is thought better of is not typed. Also at the edge of the window it is to be seen.
    await t.page.mouse.click(1278, 718);
    await compose("かきくけこ");
    await says(t.page, "#typing-draft", /^かきくけこ$/);
    const draft = await t.page.locator("#typing-draft").boundingBox();
    assert.ok(draft.x + draft.width <= 1280 && draft.y + draft.height <= 720 && draft.width > 80, JSON.stringify(draft));
    await compose("");
    await t.page.keyboard.insertText("😀é");
    await t.page.keyboard.press("b");
    await typed([...symbols("aä日本"), 0xff0d, ...symbols("😀éb")]);
    assert.equal(await t.page.inputValue("#typing"), "");
    assert.equal(await t.page.isVisible("#typing-raise"), false, "there is no touch keyboard");
    // The key of a letter that the input method has is not the desktop's.
    await keys.send("Input.dispatchKeyEvent", { type: "rawKeyDown", key: "Process", code: "KeyN", windowsVirtualKeyCode: 229 });
    await keys.send("Input.dispatchKeyEvent", { type: "keyUp", key: "n", code: "KeyN", windowsVirtualKeyCode: 78 });
    await t.page.keyboard.press("c");
    await typed([...symbols("aä日本"), 0xff0d, ...symbols("😀ébc")]);
  },

  async "a touch keyboard is raised by its button"() {
    const c = await context(phone);
    const page = await c.newPage();
    await page.addInitScript(() => localStorage.setItem("oriel.pin", "yes")); // the toolbar stays, however slow the fingers are
    await begin(page, "DESKTOP");
    await page.tap("#desktop canvas", { position: { x: 200, y: 600 } });
    await until("the touch of the desktop", async () => (await behind()).clicked > 0);
    const mode = () => page.evaluate(() => document.activeElement.id === "typing" && document.activeElement.inputMode);
    assert.equal(await mode(), "none", "a touch of the desktop raises no keyboard");
    await page.tap("#typing-raise");
    await page.waitForSelector("#typing-raise[aria-pressed=true]"); // browsers make the click of a touch in their own time
    assert.equal(await mode(), "text");
    const keys = await c.newCDPSession(page);
    await keys.send("Input.imeSetComposition", { text: "hallo", selectionStart: 5, selectionEnd: 5 });
    await keys.send("Input.insertText", { text: "Hallo " });
    await page.keyboard.insertText("ж");
    await typed(symbols("Hallo ж"));
    // A backspace that comes without a key, as from Android's keyboards.
    await page.evaluate(() => document.execCommand("delete"));
    await typed([...symbols("Hallo ж"), 0xff08]);
    const { clicked } = await behind();
    await page.tap("#desktop canvas", { position: { x: 200, y: 600 } });
    await until("the touch of the desktop", async () => (await behind()).clicked > clicked);
    assert.equal(await mode(), "text", "it stays while one works");
    await page.tap("#typing-raise");
    await page.waitForSelector("#typing-raise[aria-pressed=false]");
    assert.equal(await mode(), "none");
    await c.close();
  },

  async "a touch of the grip is not one of what lies under it"() {
    const c = await context(phone);
    const page = await c.newPage();
    await begin(page, "DESKTOP");
    await page.tap("#desktop canvas", { position: { x: 200, y: 600 } });
    await until("an empty edge", () => page.evaluate(() => document.getElementById("edge").dataset.shown === "false"));
    await until("the touch of the desktop", async () => (await behind()).clicked === 1);
    await page.evaluate(() => new MutationObserver(() => (window.came ||= document.getElementById("edge").dataset.shown === "true")).observe(document.getElementById("edge"), { attributes: true }));
    await page.tap("#grip");
    await until("the toolbar", () => page.evaluate(() => window.came));
    await page.tap("#desktop canvas", { position: { x: 200, y: 600 } }); // what was touched before comes before it
    await until("the second touch of the desktop", async () => (await behind()).clicked > 1);
    assert.equal((await behind()).clicked, 2);
    await c.close();
  },

  async "the toolbar leaves the home screen its title"() {
    for (const width of [320, 390, 800]) {
      const c = await context({ ...phone, viewport: { width, height: 780 } });
      const page = await c.newPage();
      await begin(page, "APP");
      await shown(page, "#home .app");
      assert.equal(await page.isVisible("#typing-raise"), false, "there is nothing to type into");
      let places; // the toolbar has the height of its tools, which come with the news of the session
      const apart = async () => {
        places = await page.evaluate(() => ({ title: document.getElementById("home-title").getBoundingClientRect().top, bar: document.getElementById("bar").getBoundingClientRect().bottom }));
        return places.title >= places.bar + 8;
      };
      await until("", apart).catch(() => assert.fail(`${width}: the title begins at ${places.title}, the toolbar ends at ${places.bar}`));
      await c.close();
    }
  },

  async "the end of a session that was left is noticed"(t) {
    await begin(t.page, "DESKTOP", { awaySeconds: 5 });
    await press(t.page, "[data-panel=leaving]");
    await t.page.click("#leave");
    await heard(t.page, "veil-text", /still open\. The session is kept for you for [1-5] seconds? more/);
    await says(t.page, "#veil-text", /The session is ending/);
    await control("info", { state: "EXPIRED", endCode: "away" });
    await says(t.page, "#veil-text", /away for longer/);
    assert.equal(await t.page.isVisible("text=Reconnect"), false);
  },

  async "disconnecting keeps the session"(t) {
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=leaving]");
    await says(t.page, "#leave-hint", /kept for you until .*\d\d:\d\d/);
    await t.page.click("#leave");
    await state(t.page, "ended");
    await says(t.page, "#veil-text", /still open.*kept for you until/);
    await until("no stream", async () => (await behind()).streams === 0);
    await t.page.click("text=Reconnect");
    await state(t.page, "connected");
  },

  async "ending a session asks once"(t) {
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=leaving]");
    await t.page.click("#end");
    await t.page.click("text=Keep working");
    await until("the desktop's focus", () => t.page.evaluate(() => document.activeElement.id === "typing"));
    await press(t.page, "[data-panel=leaving]");
    await t.page.click("#end");
    await t.page.click("#ending-submit");
    await says(t.page, "#veil-title", /Your session has ended/);
    assert.equal(await t.page.isVisible("#ghost"), false, "nothing of the desktop is left to be seen");
    // Also from afar.
    await begin(t.page, "DESKTOP");
    await press(t.page, "[data-panel=leaving]");
    await t.page.click("#leave");
    await t.page.click("#veil >> text=End session");
    await t.page.click("#ending-submit");
    await says(t.page, "#veil-title", /Your session has ended/);
  },

  async "the end of a session is told once, also when the stream is quicker"(t) {
    await begin(t.page, "DESKTOP");
    await t.page.route("**/end", async (route) => {
      const response = await route.fetch();
      await says(t.page, "#veil-title", /Your session has ended/);
      await route.fulfill({ response });
    });
    await press(t.page, "[data-panel=leaving]");
    await t.page.click("#end");
    const answered = t.page.waitForResponse("**/end");
    await t.page.click("#ending-submit");
    await (await answered).finished();
    await t.page.evaluate(() => new Promise((done) => setTimeout(done)));
    const told = await t.page.evaluate(() => window.heard["veil-title"]);
    assert.equal(told.indexOf("Your session has ended"), told.length - 1, told.join(", "));
  },

  async "an end is told while the panels are on their way"(t) {
    const told = gate();
    await t.page.route("**/panels*.js*", async (route) => {
      await told.opened;
      await route.fallback().catch(() => undefined);
    });
    await begin(t.page, "DESKTOP");
    await control("info", { state: "EXPIRED", endCode: "admin" });
    await control("close?code=4011");
    await says(t.page, "#veil-title", /was ended/);
    told.open();
  },

  async "every end says why, and where to go"(t) {
    for (const [endCode, title] of Object.entries({ user: /has ended/, admin: /was ended/, away: /has ended/, duration: /time of your session is over/, fleet: /service was stopped/, instance: /machine was lost/, start: /could not begin/ })) {
      await begin(t.page, "DESKTOP", { feedbackURL: "https://example.com/feedback" });
      await control("info", { state: "EXPIRED", endCode, reason: "It is over." });
      await control("close?code=4011");
      await says(t.page, "#veil-title", title);
      assert.equal(await t.page.getAttribute("#veil-actions >> text=Give feedback", "href"), "https://example.com/feedback");
      assert.equal(/Open your streaming link to begin a new session/.test(await text(t.page, "#veil-text")), ["away", "duration", "instance", "start"].includes(endCode), endCode);
    }
    const read = gate();
    await t.page.route("**/after", async (route) => {
      await read.opened;
      await route.fallback();
    });
    await begin(t.page, "DESKTOP", { redirectURL: `${process.env.ORIEL_SERVER}/after` });
    await control("info", { state: "EXPIRED", endCode: "user" });
    await control("close?code=4011");
    await says(t.page, "#veil-text", /You go on to 127\.0\.0\.1:\d+ in [1-5] s/);
    read.open();
    await t.page.waitForURL(/\/after$/);
    await begin(t.page, "DESKTOP", { redirectURL: "javascript:alert(1)", feedbackURL: "data:text/html,x" });
    await control("info", { state: "EXPIRED", endCode: "user" });
    await control("close?code=4011");
    await says(t.page, "#veil-title", /has ended/);
    assert.equal(await t.page.locator("#veil-actions *").count(), 0, "only addresses of the web are gone to");
  },

  async "a session is taken over by another window, and taken back"(t) {
    await begin(t.page, "DESKTOP");
    await control("close?code=4012");
    await says(t.page, "#veil-title", /Open in another window/);
    await until("the end of the stream", async () => (await behind()).streams === 0);
    await t.page.waitForTimeout(700);
    assert.equal((await behind()).streams, 0, "it does not fight for it");
    await t.page.click("text=Use here");
    await state(t.page, "connected");
  },

  async "who was not here can come back"(t) {
    await begin(t.page, "APP", {}, [editor]);
    await control("close?code=4013");
    await says(t.page, "#veil-title", /nobody was here/);
    await says(t.page, "#veil-text", /kept for you until .*\d\d:\d\d/);
    await t.page.click("text=Reconnect");
    await state(t.page, "connected");
    await until("the windows", async () => (await text(t.page, "#windows-count")) === "1");
  },

  async "how long a session is kept is told as soon as it is known"(t) {
    await control("hold");
    try {
      await begin(t.page, "DESKTOP");
      await control("close?code=4013");
      await says(t.page, "#veil-text", /kept for you for a while/);
    } finally {
      await control("release");
    }
    await says(t.page, "#veil-text", /kept for you until .*\d\d:\d\d/);
  },

  async "a lost connection comes back"(t) {
    await begin(t.page, "DESKTOP");
    await passes(t.page, "reconnecting", () => control("close?code=4004"));
    await state(t.page, "connected");
  },

  async "the sound of the session is heard"({ page: other }) {
    await other.goto("about:blank");
    const c = await context(); // in which nobody has pressed anything yet
    const t = { page: await c.newPage() };
    await t.page.addInitScript(() => {
      Object.defineProperty(navigator, "userActivation", { value: undefined }); // what runs here counts as a press
      const connect = AudioNode.prototype.connect;
      AudioNode.prototype.connect = function (to, ...rest) {
        if (to instanceof AudioDestinationNode) {
          window.ear = new AnalyserNode(this.context, { fftSize: 2048 });
          connect.call(this, window.ear);
        }
        return connect.call(this, to, ...rest);
      };
      window.loudness = () => {
        const samples = new Float32Array(2048);
        window.ear?.getFloatTimeDomainData(samples);
        return Math.max(...samples.map(Math.abs));
      };
    });
    await begin(t.page, "DESKTOP");
    await until("the end of earlier ones", async () => (await behind()).sounds === 0);
    await t.page.waitForTimeout(300);
    assert.equal((await behind()).sounds, 0, "nothing before the first press");
    await press(t.page, "[data-panel=sound]");
    await until("the connection", async () => (await behind()).sounds === 1);
    // A second of a tone, as the browser itself encodes it.
    const packets = await t.page.evaluate(async () => {
      const out = [];
      const encoder = new AudioEncoder({
        output: (chunk) => {
          const bytes = new Uint8Array(chunk.byteLength);
          chunk.copyTo(bytes);
          out.push(btoa(String.fromCharCode(...bytes)));
        },
        error: (e) => out.push(String(e)),
      });
      encoder.configure({ codec: "opus", sampleRate: 48000, numberOfChannels: 2, opus: { frameDuration: 20000 } });
      for (let n = 0; n < 60; n++) {
        const data = new Float32Array(1920).map((_, i) => 0.5 * Math.sin((2 * Math.PI * 440 * (n * 960 + (i % 960))) / 48000));
        encoder.encode(new AudioData({ format: "f32-planar", sampleRate: 48000, numberOfFrames: 960, numberOfChannels: 2, timestamp: n * 20000, data }));
      }
      await encoder.flush();
      return out;
    });
    const playing = control("sound", packets); // again and again
    await until("a sound", () => t.page.evaluate(() => window.loudness() > 0.3));
    await shown(t.page, "[data-panel=sound][data-playing=true]");
    await t.page.fill("#sound-volume", "20");
    await until("less of it", () => t.page.evaluate(() => window.loudness() > 0 && window.loudness() < 0.1));
    await control("silence");
    await playing;
    await until("silence, in which the device rests", () => t.page.evaluate(() => window.ear.context.state === "suspended"));
    await t.page.click("#sound-mute");
    await until("no connection while it is muted", async () => (await behind()).sounds === 0);
    await t.page.reload();
    await state(t.page, "connected");
    await press(t.page, "[data-panel=sound]");
    await shown(t.page, "#sound-mute[aria-pressed=true]");
    assert.equal(await t.page.inputValue("#sound-volume"), "20");
    await t.page.click("#sound-mute");
    await until("the connection", async () => (await behind()).sounds === 1);
    await c.close();
  },

  async "what comes over a stream that was closed is given to nobody"() {
    const { outputFiles } = await build({ entryPoints: ["src/channel.ts"], bundle: true, format: "esm", write: false, target: "node20" });
    const { Channel } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
    const sockets = [];
    const before = globalThis.WebSocket;
    globalThis.WebSocket = class {
      static OPEN = 1;
      static CLOSING = 2;
      readyState = 1;
      constructor() {
        sockets.push(this);
      }
      close() {
        this.readyState = 2;
      }
    };
    const channel = new Channel("ws://127.0.0.1/");
    const got = [];
    channel.onmessage = ({ data }) => got.push(data);
    const [socket] = sockets;
    socket.onmessage({ data: new ArrayBuffer(1) });
    channel.close();
    socket.onmessage({ data: new ArrayBuffer(2) });
    globalThis.WebSocket = before;
    assert.deepEqual(got.map((data) => data.byteLength), [1]);
  },

  async "sound is gathered before it is played, and dropped when it is late"() {
    const { outputFiles } = await build({ entryPoints: ["src/ring.ts"], bundle: true, format: "esm", write: false, target: "node20" });
    const { Ring } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
    let next = 0;
    const write = (ring, ms) => ring.write([Float32Array.from({ length: ms * 48 }, () => ++next)]);
    const read = (ring) => {
      const out = [new Float32Array(128).fill(-1), new Float32Array(128).fill(-1)];
      ring.read(out);
      assert.deepEqual(out[0], out[1], "one channel is played on both sides");
      return [...out[0]];
    };
    const silence = Array(128).fill(0);
    const steady = new Ring();
    assert.deepEqual(read(steady), silence);
    for (let n = 0; n < 3; n++) write(steady, 20);
    assert.deepEqual(read(steady), silence, "60 ms are not enough");
    write(steady, 20);
    // For a minute, in which the other clock is a thousandth faster: every sample in its turn, but for what is dropped.
    let last = 0;
    let drops = 0;
    let most = 0;
    for (let played = 0, due = 0; played < 60_000 * 48; played += 128) {
      for (due += 128 * 1.001; due >= 960; due -= 960) write(steady, 20);
      most = Math.max(most, steady.length);
      for (const sample of read(steady)) {
        assert.ok(sample > last, `${sample} comes after ${last}`);
        if (sample !== last + 1) drops++;
        last = sample;
      }
    }
    assert.ok(most <= 200 * 48 && drops <= 1, `${most / 48} ms were waiting, ${drops} gaps`);
    // A short sound is played too, and after it there is silence.
    const short = new Ring();
    write(short, 20);
    const heard = Array.from({ length: 100 }, () => read(short)).flat().filter((sample) => sample !== 0);
    assert.equal(heard.length, 960);
    // A burst after a stall leaves the newest.
    const burst = new Ring();
    write(burst, 900);
    write(burst, 900);
    assert.equal(burst.length, 80 * 48);
    const end = Array.from({ length: 30 }, () => read(burst)).flat();
    assert.equal(end[80 * 48 - 1], Math.fround(next));
  },

  async "a browser without a decoder says so"() {
    const c = await context();
    const page = await c.newPage();
    await page.addInitScript(() => delete window.AudioDecoder);
    await begin(page, "DESKTOP");
    await press(page, "[data-panel=sound]");
    await says(page, "#sound-status", /This browser cannot play the sound/);
    await c.close();
  },

  async "in German nothing is English"() {
    const c = await context({ locale: "de-DE" });
    const page = await c.newPage();
    const look = (where) => notEnglish(page, where);
    const panel = (name) => press(page, `[data-panel=${name}]`);
    await begin(page, "DESKTOP", { state: "PENDING", notes: ["The start script /x failed."] });
    await says(page, "#veil-title", /Design studio wird vorbereitet/);
    await look("preparing");
    await control("info", { state: "ACTIVE" });
    await state(page, "connected");
    assert.equal(await page.evaluate(() => document.documentElement.lang), "de");
    await slip(page, /In der Sitzung ist etwas fehlgeschlagen/);
    await page.click("#notices [aria-label=Ausblenden]");
    for (const name of ["applications", "windows", "clipboard", "keyboard", "display", "files", "sound", "leaving"]) {
      await panel(name);
      await shown(page, `#${name}`);
      await look(name);
    }
    await says(page, "#details", /nach 30 Minuten/);
    await says(page, "#leave-hint", /bleibt bis .*\d\d:\d\d für Sie erhalten/);

    // Files: uploads that go, that wait, that are refused; questions; names.
    const { folder } = await behind();
    writeFileSync(join(folder, "Brief.odt"), Buffer.alloc(1_240_000));
    await until("a question for news", async () => (await behind()).waiting > 0);
    await control("prints", [{ id: "p1", title: "Rechnung", size: 48, printed: new Date().toISOString() }]);
    await slip(page, /Rechnung wurde gedruckt\./);
    await panel("files");
    await says(page, "#files-list", /1,2\sMB/);
    await says(page, "#files-free", /7,3\sGB frei/);
    await says(page, "#prints-list", /48\sByte/);
    await drop(page, [["Brief.odt", "x"]]);
    await shown(page, "#uploads >> text=Brief.odt gibt es hier schon.");
    await look("a name that is taken");
    await page.click("#uploads [aria-label='Brief.odt nicht hochladen']");
    await page.click("[aria-label='Brief.odt löschen']");
    await shown(page, "text=Brief.odt löschen?");
    await look("the question before something is deleted");
    await page.click("text=Behalten");
    await page.click("#files-new");
    await page.keyboard.press("Enter");
    await says(page, "#files-error", /braucht einen Namen/);
    await page.fill("#files-new-name", "..");
    await page.keyboard.press("Enter");
    await says(page, "#files-error", /Schrägstrich/);
    await page.click("#files-new-back");
    await control("slow?is=2000");
    await drop(page, [["a.bin", "x".repeat(150_000)], ["b.bin", "y"]]);
    await shown(page, "#uploads progress");
    await says(page, "#uploads", /Wartet/);
    await look("an upload");
    await panel("files"); // closes it
    await control("slow?is=0");
    await slip(page, /Ihre 2 Dateien wurden hochgeladen\./);

    // What the server says beside, what it refuses.
    await control("notice", { notice: "ending", in: 299 });
    await control("notice", { notice: "idle", in: 60 });
    await control("notice", { notice: "clipboard", direction: "in", reason: "length", max: 4096 });
    for (const words of [/Die Sitzung endet in 5 Minuten\./, /Ist jemand da\?/, /höchstens 4\.096 Zeichen/]) await slip(page, words);
    await look("notices");
    for (const rules of [{ copyOut: false, copyInMax: 4096, upload: false, print: false }, { copyIn: false, download: false }]) {
      await begin(page, "DESKTOP", { rules });
      for (const name of ["clipboard", "files"]) {
        await panel(name);
        await look(`${name} with ${JSON.stringify(rules)}`);
      }
    }

    // The ends.
    await begin(page, "DESKTOP");
    await panel("leaving");
    await page.click("#end");
    await look("the question before the end");
    await page.click("#ending-back");
    await panel("leaving");
    await page.click("#leave");
    await says(page, "#veil-title", /Getrennt/);
    await look("disconnected");
    for (const [code, title] of [[4012, /anderen Fenster/], [4013, /niemand da war/], [4009, /Zu viele Betrachter/]]) {
      await begin(page, "DESKTOP");
      await control(`close?code=${code}`);
      await says(page, "#veil-title", title);
      await look(`the end ${code}`);
    }
    await page.route("**/after", () => undefined); // nobody goes on while the end is looked at
    for (const endCode of ["user", "admin", "away", "duration", "fleet", "instance", "start"]) {
      await begin(page, "DESKTOP", { feedbackURL: "https://example.com/feedback", portal: "/portal/1/r", ...(endCode === "user" && { redirectURL: `${process.env.ORIEL_SERVER}/after` }) });
      await control("info", { state: "EXPIRED", endCode });
      await control("close?code=4011");
      await state(page, "ended");
      assert.doesNotMatch(await text(page, "#veil"), /Link/, "who came by the portal has none");
      await look(`ended by ${endCode}`);
    }

    // The home screen.
    await begin(page, "APP", { apps: 16 });
    await shown(page, "#home .app");
    await page.fill("#apps-search", "gibt es nicht");
    await says(page, "#apps-none", /Nichts heißt „gibt es nicht“\./);
    await look("the home screen");
    await control("windows", [editor]);
    await until("a window", async () => (await text(page, "#windows-count")) === "1");
    await panel("windows");
    await shown(page, "[aria-label='letter.txt – Mousepad schließen']");
    await look("the windows");
    await c.close();
  },

  async "another language is chosen, and stays"() {
    const c = await context();
    const page = await c.newPage();
    await begin(page, "DESKTOP");
    const before = await page.evaluate(() => history.length);
    await press(page, "[data-panel=display]");
    assert.equal(await page.textContent(".languages [aria-current]"), "English");
    await page.click("text=Deutsch");
    await page.waitForFunction(() => document.documentElement.lang === "de");
    await state(page, "connected");
    assert.equal(page.url(), address);
    assert.equal(await page.evaluate(() => history.length), before, "the way back does not lead through languages");
    const fetched = [];
    const other = await c.newPage();
    other.on("request", (r) => fetched.push(new URL(r.url()).pathname));
    await other.route("**/viewer.js*", async (route) => {
      await until("the words, beside the viewer", () => fetched.some((path) => path.includes("/words-")));
      await route.continue();
    });
    await begin(other, "APP");
    await other.unroute("**/viewer.js*");
    assert.equal(await other.getAttribute("#home-tool", "aria-label"), "Anwendungen");
    assert.deepEqual(fetched.filter((path) => path.includes("/words-")), ["/assets/words-de.js"], "only the words of one language are fetched");
    await press(other, "[data-panel=display]");
    await other.click("text=English");
    await other.waitForFunction(() => document.documentElement.lang === "en");
    await state(other, "connected");
    await assert.rejects(notEnglish(other, "English"), /the page says/, "what looks for English finds it");
    await c.close();
  },

  async "the viewer works in a frame"() {
    const c = await context();
    const page = await c.newPage();
    await control("reset?view=APP");
    await page.goto(`${process.env.ORIEL_SERVER}/frame`);
    const frame = page.frames()[1];
    await frame.waitForSelector("#home .app", { state: "visible" });
    await frame.click("[data-name=app-0]");
    await frame.waitForSelector("#home", { state: "hidden" });
    await c.close();
  },
};

/** Every screen of the viewer: held to what every page is held to, and kept as a picture. */
async function screens(only) {
  const { folder } = await empty();
  const c = await context({ hasTouch: true }); // so that there is a touch keyboard to be raised
  const page = await c.newPage();
  const look = async (name, prepare) => {
    if (only.length && !only.some((o) => name.includes(o))) return;
    await prepare();
    problems.push(...(await barriers(page, name)));
    if (await page.evaluate(() => document.documentElement.lang !== "en")) await notEnglish(page, name);
  };
  const panel = (name) => press(page, `[data-panel=${name}]`);
  const themed = async (style, view, info) => {
    await control(`reset?view=${view}`);
    await control("theme", theme(style));
    await control("info", info);
    await page.goto(address);
  };
  const ended = async (endCode) => {
    await control("info", { state: "EXPIRED", endCode, reason: "It is over." });
    await control("close?code=4011");
    await state(page, "ended");
  };
  await look("preparing", () => begin(page, "DESKTOP", { state: "PENDING", reason: "The instance is being started." }));
  await look("theme-pink-preparing", () => themed("pink", "DESKTOP", { state: "PENDING" }));
  for (const style of ["red", "blue"]) {
    await look(`theme-${style}-home`, async () => {
      await themed(style, "APP", {});
      await shown(page, "#home .app");
    });
  }
  await look("theme-light-blue-ended", async () => {
    await themed("light-blue", "DESKTOP", { portal: "/portal/123456789012/us-west-2", feedbackURL: "https://example.com/feedback" });
    await state(page, "connected");
    await ended("user");
  });
  await look("desktop", async () => {
    await begin(page, "DESKTOP");
    await press(page, "#name");
  });
  await look("home-large", async () => {
    await begin(page, "APP", { apps: 16 });
    await shown(page, "#apps-search");
  });
  await look("home-empty", async () => {
    await begin(page, "APP", { apps: 0 });
    await shown(page, "#apps-none");
  });
  await look("home-starting", async () => {
    await begin(page, "APP", {}, [terminal]);
    await press(page, "#home-tool");
    await page.route("**/launch", () => undefined);
    await page.click("[data-name=app-1]");
    await page.mouse.move(5, 600);
  });
  await page.unroute("**/launch");
  await look("windows", async () => {
    await begin(page, "APP", {}, [editor, terminal, { id: 11, title: "Zeichenprogramm für Schaltpläne — Entwurf mit einem sehr langen Namen.kicad", class: "kicad" }]);
    await panel("windows");
    await shown(page, "#windows-list .row");
  });
  await look("no-windows", async () => {
    await begin(page, "DESKTOP");
    await panel("windows");
    await shown(page, "#windows-none");
  });
  await look("applications", async () => {
    await begin(page, "DESKTOP");
    await panel("applications");
    await shown(page, "#applications .app");
  });
  await look("no-files", async () => {
    await begin(page, "DESKTOP");
    await panel("files");
    await shown(page, "#files-none");
    await page.click("#files-new");
    await page.fill("#files-new-name", "a/b");
    await page.keyboard.press("Enter");
    await shown(page, "#files-error");
  });
  await look("files", async () => {
    await begin(page, "DESKTOP");
    for (const [name, bytes] of [["Budget 2026.ods", 48_231], ["Entwurf für Grace.odt", 1_204_331], ["履歴書.pdf", 733_000], ["تقرير.txt", 902]]) writeFileSync(join(folder, name), Buffer.alloc(bytes));
    mkdirSync(join(folder, "Bilder & Töne"), { recursive: true });
    await control("prints", [{ id: "p1", title: "Rechnung 2026-11", size: 48_213, printed: new Date().toISOString() }]);
    await panel("files");
    await shown(page, "#files-upload");
    await control("slow?is=100000");
    await page.setInputFiles("#files-pick", [{ name: "Aufnahme.wav", mimeType: "audio/wav", buffer: Buffer.alloc(8_000_000) }, { name: "Budget 2026.ods", mimeType: "x/y", buffer: Buffer.alloc(10) }]);
    await says(page, "#uploads", /\D8\sMB/);
  });
  await look("files-delete", async () => {
    await begin(page, "DESKTOP");
    await panel("files");
    await page.click("[data-name='Budget 2026.ods'] button.tool");
  });
  await look("files-failed", async () => {
    await begin(page, "DESKTOP");
    await control(`refuse?what=${encodeURIComponent("PUT /files/")}&words=${encodeURIComponent("Disk: 0 B.")}`);
    await panel("files");
    await shown(page, "#files-upload");
    await drop(page, [["small.txt", "text"]]);
    await shown(page, "#uploads .failed");
  });
  await look("files-drop", async () => {
    await begin(page, "DESKTOP");
    await until("the panels' script", () => page.evaluate(() => !document.querySelector("#files-upload").hidden));
    await page.evaluate(() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(["x"], "x"));
      dispatchEvent(new DragEvent("dragover", { dataTransfer: transfer, cancelable: true }));
    });
    await shown(page, "#drop");
  });
  for (const name of ["sound", "keyboard", "display", "leaving"]) {
    await look(name, async () => {
      await begin(page, "DESKTOP");
      await until("the panels", () => page.evaluate(() => document.querySelector("#details").children.length > 0));
      await panel(name);
    });
  }
  await look("clipboard", async () => {
    await begin(page, "DESKTOP", { rules: { copyOut: false, copyInMax: 4096 } });
    await panel("clipboard");
  });
  await look("ending", async () => {
    await begin(page, "DESKTOP");
    await panel("leaving");
    await page.click("#end");
  });
  await look("notices", async () => {
    await begin(page, "DESKTOP");
    await until("a question for news", async () => (await behind()).waiting > 0);
    await control("prints", [{ id: "p2", title: "Rechnung 2026-11", size: 48_213, printed: new Date().toISOString() }]);
    await control("notice", { notice: "ending", in: 299 });
    await control("notice", { notice: "idle", in: 60 });
    await control("notice", { notice: "clipboard", direction: "in", reason: "length", max: 4096 });
    await slip(page, /4.096/);
    await press(page, "#name");
  });
  await look("disconnected", async () => {
    await begin(page, "DESKTOP");
    await panel("leaving");
    await page.click("#leave");
    await state(page, "ended");
  });
  await look("elsewhere", async () => {
    await begin(page, "DESKTOP");
    await control("close?code=4012");
    await shown(page, "#emblem[data-icon=windows]");
  });
  for (const endCode of ["user", "instance"]) {
    await look(`ended-${endCode}`, async () => {
      await begin(page, "DESKTOP", { feedbackURL: "https://example.com/feedback" });
      await ended(endCode);
    });
  }
  await look("reconnecting", async () => {
    await begin(page, "DESKTOP");
    await page.route("**/info*", (route) => route.abort());
    await control("close?code=4004");
    await shown(page, "#veil-action");
  });
  await page.unroute("**/info*");
  await look("package", async () => {
    await control("reset?view=DESKTOP");
    await control("info", { kind: "app-block-builder", state: "RUNNING", name: "packer", appBlock: { name: "editors", state: "INACTIVE" } });
    await page.goto(address);
    await state(page, "connected");
    await page.route("**/package", (route) => route.fulfill({ status: 409, json: { code: "package", message: "The app block has a package already." } }));
    await press(page, "#create");
    await page.click("#package-submit");
    await shown(page, "#package-error");
  });
  await page.unroute("**/package");
  await look("packaging", async () => {
    await page.click("#package-cancel");
    await control("info", { state: "STOPPING", packaging: true });
    await control("close?code=4011");
    await state(page, "imaging");
  });
  // Colours that the person's system prescribes.
  await page.emulateMedia({ forcedColors: "active" });
  await begin(page, "DESKTOP");
  await press(page, "[data-panel=sound]");
  const [border, bar] = await page.evaluate(() => [getComputedStyle(document.querySelector("[data-panel=sound]")).outlineStyle, getComputedStyle(document.getElementById("bar")).borderTopStyle]);
  assert.deepEqual([border, bar], ["solid", "solid"], "what is pressed, and what is a bar, is told by lines");
  await c.close();
}

let failed = 0;
const only = process.argv.slice(2);
if (!process.env.ORIEL_SCREENSHOTS) {
  const t = { context: await context() };
  t.page = await t.context.newPage();
  for (const [name, run] of Object.entries(tests)) {
    if (only.length && !only.some((o) => name.includes(o))) continue;
    const began = Date.now();
    try {
      await run(t);
      console.log(`ok    ${name} (${Date.now() - began} ms)`);
    } catch (error) {
      failed++;
      console.log(`FAIL  ${name} (${Date.now() - began} ms)\n${error.stack}\n${await views(browser)}`);
    }
    for (const problem of problems.splice(0)) {
      failed++;
      console.log(`FAIL  ${name}: ${problem}`);
    }
    await t.page.unrouteAll({ behavior: "ignoreErrors" }); // the next one begins as it would alone
  }
}
{
  const began = Date.now();
  await screens(only).catch(async (error) => problems.push(`${error.stack}\n${await views(browser)}`));
  for (const problem of problems) console.log(`FAIL  ${problem}`);
  failed += problems.length;
  console.log(`${problems.length ? "FAIL" : "ok   "} every screen (${Date.now() - began} ms)`);
}
await browser.close();
process.exit(failed ? 1 : 0);
