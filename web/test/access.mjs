// What every page is held to, whoever it is for: axe finds nothing, in dark and light, and nothing is cut off, out of reach or too small to be hit, from a desk to a phone.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const shots = process.env.ORIEL_SCREENSHOTS;
if (shots) mkdirSync(shots, { recursive: true });

/** The windows that a page is put into, and how large what is pressed must be in each direction there, in pixels: for a finger, or for a mouse. */
const windows = [
  { name: "phone", width: 360, height: 640, touch: true, least: 44 },
  { name: "phone on its side", width: 640, height: 360, touch: true, least: 44 },
  { name: "tablet", width: 768, height: 1024, touch: true, least: 44 },
  { name: "desk", width: 1280, height: 720, touch: false, least: 24 },
];

/** What axe looks at in every colour of the wide and of the narrow window; the rest of it does not depend on them and is looked at once. */
const visual = ["color-contrast", "scrollable-region-focusable", "target-size"];

/** Lists everything that stands in somebody's way on a page as it is now; where names the page. It has its own window and colours again afterwards. */
export async function barriers(page, where) {
  const before = page.viewportSize();
  const found = new Map(); // where each problem is
  const device = await page.context().newCDPSession(page);
  for (const { name, width, height, touch, least } of windows) {
    await device.send("Emulation.setTouchEmulationEnabled", { enabled: touch });
    await page.setViewportSize({ width, height });
    for (const colorScheme of name === "phone" || name === "desk" ? ["light", "dark"] : ["dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" }); // so that there is nothing between two colours
      if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))); // scripts have answered to the window
      const examined = async (rules, state) => {
        for (const problem of await page.evaluate(examine, { rules, least, dark: colorScheme === "dark" })) {
          found.set(problem, [...(found.get(problem) ?? []), `${name}, ${colorScheme}${state}`]);
        }
      };
      const rules = name === "desk" && colorScheme === "dark" ? "all" : name === "phone" || name === "desk" ? visual : [];
      await examined(rules, "");
      if (name === "desk") await underTheMouse(device, () => examined(["color-contrast"], ", under the mouse"));
      if (shots) await page.screenshot({ path: join(shots, `${where}-${name}-${colorScheme}.png`.replaceAll(" ", "-")) });
    }
  }
  await device.send("Emulation.setTouchEmulationEnabled", { enabled: false });
  await device.detach();
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  await page.setViewportSize(before);
  return [...found].map(([problem, at]) => `${where}: ${problem} [${at.join("; ")}]`);
}

/** Does something while everything that can be pressed is shown as it is under the mouse. */
async function underTheMouse(device, run) {
  await device.send("DOM.enable");
  await device.send("CSS.enable");
  const find = async () => {
    const { root } = await device.send("DOM.getDocument", { depth: 0 });
    return device.send("DOM.querySelectorAll", { nodeId: root.nodeId, selector: "a, button, label, summary, .row" });
  };
  const { nodeIds } = await find().catch(find); // the page goes on meanwhile: what it replaces is not known any more
  const point = (nodeId) =>
    device.send("CSS.forcePseudoState", { nodeId, forcedPseudoClasses: ["hover"] }).catch((error) => {
      if (!/Could not find node/.test(error.message)) throw error;
    });
  await Promise.all(nodeIds.map(point));
  await run();
  await device.send("CSS.disable"); // lets them be as they are
  await device.send("DOM.disable");
}

/** Runs in the page. */
async function examine({ rules, least, dark }) {
  const found = [];
  document.activeElement?.scrollIntoView({ block: "nearest" }); // as it was before the window changed
  const seen = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !e.closest("[inert], .unseen");
  const say = (e) => `${e.tagName.toLowerCase()}${e.id ? `#${e.id}` : ""}${[...e.classList].map((c) => `.${c}`).join("")} “${(e.textContent || e.ariaLabel || "").trim().replace(/\s+/g, " ").slice(0, 40)}”`;

  // Colours are measured with the worst that can be behind them: axe knows no gradients, no pictures and no hints.
  const worst = new CSSStyleSheet();
  const ghost = document.getElementById("ghost");
  const picture = dark ? (ghost && !ghost.hidden ? Number(/brightness\(([\d.]+)/.exec(getComputedStyle(ghost).filter)?.[1] ?? 1) * 255 : 255) : 0;
  worst.replaceSync(`
    *, ::before, ::after { background-image: none !important; backdrop-filter: none !important; transition: none !important }
    [data-tip]::after { content: none !important }
    :is(.notice, .portal, #home, #ghost[hidden] ~ #veil) { background-color: var(--${dark || document.documentElement.dataset.theme ? "glow" : "ground"}) !important }
    :is(#desktop canvas, #ghost) { visibility: hidden !important }
    .viewer { background: rgb(${picture} ${picture} ${picture}) !important }`);
  document.adoptedStyleSheets.push(worst);
  const { violations, incomplete } = rules.length === 0 ? { violations: [], incomplete: [] } : await window.axe.run(document, {
    resultTypes: ["violations", "incomplete"],
    ...(rules === "all" ? { rules: { "target-size": { enabled: true } } } : { runOnly: rules }),
  });
  document.adoptedStyleSheets.pop();
  const tell = (kind, { id, impact, nodes }) => {
    for (const { target, any, all, none } of nodes) found.push(`${kind}${id} (${impact}): ${target.join(" ")}: ${[...any, ...all, ...none].map((check) => check.message).join("; ")}`);
  };
  for (const violation of violations) {
    // A desktop that is larger than the window is scrolled by hand; whoever has the keyboard alone has it fitted in (the panel "Display"), because it has all keys.
    violation.nodes = violation.nodes.filter(({ target }) => violation.id !== "scrollable-region-focusable" || !target[0].startsWith("#desktop > "));
    tell("", violation);
  }
  for (const doubt of incomplete) {
    doubt.nodes = doubt.nodes.filter(({ any }) => !any.some((check) => check.data?.messageKey === "bgOverlap")); // what is covered is not read
    tell("? ", doubt);
  }

  // Nothing is cut off, and nothing needs to be scrolled sideways.
  const root = document.scrollingElement;
  if (root.scrollWidth > innerWidth) found.push(`the page is ${root.scrollWidth} wide and must be scrolled sideways`);
  const scrolls = (e, axis) => {
    for (let box = e.parentElement; box; box = box.parentElement) {
      if (box === root || box === document.body) return axis === "y" && getComputedStyle(document.body).overflow !== "hidden";
      if (/auto|scroll/.test(getComputedStyle(box)[axis === "x" ? "overflowX" : "overflowY"])) return true;
    }
    return false;
  };
  const controls = "a[href], button, input:not([type=hidden]), textarea, select, summary, [tabindex='0']";
  const modal = document.querySelector("dialog:modal");
  for (const e of document.querySelectorAll(`${controls}, h1, h2, h3, p, li, dt, dd, label, legend, small, kbd`)) {
    if (!seen(e) || e.matches("[tabindex='-1']") || (modal && !modal.contains(e))) continue;
    const box = e.getBoundingClientRect();
    if (box.width === 0 || box.height === 0) continue;
    if ((box.left < -0.5 || box.right > innerWidth + 0.5) && !scrolls(e, "x")) found.push(`${say(e)} reaches from ${box.left} to ${box.right}`);
    if ((box.top < -0.5 || box.bottom > innerHeight + 0.5) && !scrolls(e, "y")) found.push(`${say(e)} reaches down from ${box.top} to ${box.bottom}`);
    const style = getComputedStyle(e);
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && style.display !== "inline" && style.textOverflow !== "ellipsis" && !/auto|scroll/.test(style.overflowX) && !e.matches("[data-tip], input, textarea")) {
      found.push(`${say(e)} is ${e.clientWidth} wide, its text ${e.scrollWidth}`);
    }
    if (!e.matches(controls) || style.display === "inline") continue;
    // Nothing lies over it but what can be sent away, or what it is scrolled under.
    const over = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
    if (over && !e.disabled && !over.contains(e) && !e.contains(over) && !e.closest("label")?.contains(over) && !over.closest("#edge, #drop, .slip, .sheet footer") && !e.closest("#home, .rows, .panel, .sheet")) {
      found.push(`${say(e)} lies under ${say(over)}`);
    }
    const target = e.matches("[type=radio], [type=checkbox]") ? (e.closest("label") ?? e).getBoundingClientRect() : box;
    // Links stand in lines of text; the grip must cover nothing of the desktop, and the toolbar comes without it too, when the mouse is at the edge.
    const enough = e.matches("#grip") ? 10 : e.matches("a:not(.button, .tool, .row-main)") ? 24 : least;
    if (Math.round(target.width) < enough || Math.round(target.height) < enough) found.push(`${say(e)} is only ${Math.round(target.width)} × ${Math.round(target.height)}`);
  }
  return found;
}

/** Presses Tab, and gives the name of what has the focus then. One must see where it is. */
async function step(page) {
  await page.keyboard.press("Tab");
  const { name, lost } = await page.evaluate(() => {
    const e = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(e);
    const { top, bottom, left, right, width } = e.getBoundingClientRect();
    return {
      name: e === document.body ? "" : (e.ariaLabel || e.labels?.[0]?.textContent || e.textContent).trim().replace(/\s+/g, " "),
      lost: e !== document.body && (outlineStyle === "none" || parseFloat(outlineWidth) < 2 || width < 2 || bottom <= 0 || right <= 0 || top >= innerHeight || left >= innerWidth),
    };
  });
  if (lost) assert.fail(`the focus on “${name}” is not to be seen`);
  return name;
}

/** Goes on by Tab to the control of a name. */
export async function reach(page, name) {
  const passed = [];
  while (passed.length < 80) {
    const at = await step(page);
    if (name instanceof RegExp ? name.test(at) : name === at) return;
    passed.push(at);
  }
  assert.fail(`${name} is not reached by Tab, but ${passed.join(", ")}`);
}

/** Goes through a part of the page by Tab until it is left, and gives the names of what was passed: nothing keeps the focus. */
export async function through(page, part) {
  const passed = [];
  const inside = () => page.evaluate((selector) => document.activeElement.closest(selector) !== null, part);
  if (await inside()) passed.push("the first");
  for (let n = 0; n < 80; n++) {
    const name = await step(page);
    if (!(await inside())) return passed;
    passed.push(name);
  }
  assert.fail(`Tab does not lead out of ${part}: ${passed.join(", ")}`);
}
