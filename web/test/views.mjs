// What the tests of all pages do with a browser: wait for something, and tell what it shows when that does not come.
import assert from "node:assert/strict";

/** How long something is waited for: a machine with much to do, or one that stands still for a while, is no fault of a page. */
export const patience = 60_000;

/** Waits until something is so; what names it. */
export async function until(what, ok, timeout = patience) {
  for (const end = Date.now() + timeout; Date.now() < end; await new Promise((r) => setTimeout(r, 50))) {
    if (await ok()) return;
  }
  assert.fail(`${what} did not come`);
}

/** Something that waits for opened goes on after open(). */
export function gate() {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  return { open, opened };
}

const lost = []; // requests that came to nothing, for whoever reads that a test has failed

/**
 * Has the pages of a context remember what they say for a while only, so that a test that looks late has it all the same (heard). With ORIEL_TEST_SLOW=N they have a
 * processor N times slower, and get every answer up to N tenths of a second later: what hangs on luck shows itself then.
 */
export async function prepare(context) {
  context.setDefaultTimeout(patience);
  context.on("requestfailed", (r) => lost.push(`  ${new Date().toISOString()} ${r.method()} ${r.url()}: ${r.failure()?.errorText}`));
  await context.addInitScript(() => {
    window.heard = {};
    const listen = () => {
      for (const id of ["notices", "veil-title", "veil-text"]) {
        const text = document.getElementById(id)?.textContent.trim();
        if (text && text !== window.heard[id]?.at(-1)) (window.heard[id] ??= []).push(text);
      }
      if (document.getElementById("edge")?.dataset.greeting) window.heard.greeting = ["the way to the toolbar"];
    };
    new MutationObserver(listen).observe(document, { subtree: true, childList: true, characterData: true, attributeFilter: ["data-greeting"] });
  });
  const slow = Number(process.env.ORIEL_TEST_SLOW ?? 0);
  if (!slow) return;
  context.on("page", async (page) => {
    const device = await context.newCDPSession(page);
    await device.send("Emulation.setCPUThrottlingRate", { rate: slow }).catch(() => undefined); // it is closed already
  });
  await context.route("**", async (route) => {
    await new Promise((go) => setTimeout(go, Math.random() * slow * 100));
    await route.continue().catch(() => undefined); // nobody waits for it any more
  });
}

/** Waits until a page has said something since it was loaded, where it is said for a while only. */
export async function heard(page, where, pattern) {
  let said = [];
  await until("", async () => {
    said = await page.evaluate((id) => window.heard[id] ?? [], where).catch(() => said); // on its way to another page
    return said.some((text) => pattern.test(text));
  }).catch(() => assert.fail(`${where} has said ${said.map((text) => `“${text}”`).join(", ") || "nothing"}, not ${pattern}`));
}

/** Does something, and waits until the page has been in a state since, however briefly. */
export async function passes(page, want, act) {
  await page.evaluate((s) => {
    window.passed = false;
    new MutationObserver(() => (window.passed ||= document.documentElement.dataset.state === s)).observe(document.documentElement, { attributeFilter: ["data-state"] });
  }, want);
  await act();
  await until(`the state ${want}`, () => page.evaluate(() => window.passed));
}

/** Tells what the pages of a browser show, for whoever reads that a test has failed. */
export async function views(browser) {
  const pages = browser.contexts().flatMap((context) => context.pages()).filter((page) => page.url() !== "about:blank");
  const told = pages.map(async (page) => {
    const seen = page.evaluate(() => {
      const e = document.activeElement;
      const { width, height } = document.documentElement.getBoundingClientRect();
      return [
        `${JSON.stringify({ ...document.documentElement.dataset })}, ${width} × ${height}, the focus is on <${e?.localName}${e?.id ? ` id=${e.id}` : ""}${e?.className ? ` class=${e.className}` : ""}>`,
        ...(document.body?.innerText ?? "").split(/\s*\n\s*/).filter(Boolean).slice(0, 60),
      ].join("\n    ");
    });
    const late = new Promise((resolve) => setTimeout(resolve, 5000, "it does not answer"));
    return `  ${page.url()}: ${await Promise.race([seen, late]).catch((error) => error.message)}`;
  });
  return [...(await Promise.all(told)), ...lost.slice(-10)].join("\n");
}
