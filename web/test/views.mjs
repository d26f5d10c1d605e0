// What the tests of all pages do with a browser: wait for something, and tell what it shows when that does not come.
import assert from "node:assert/strict";

/** Waits until something is so; what names it. */
export async function until(what, ok, timeout = 10_000) {
  for (const end = Date.now() + timeout; Date.now() < end; await new Promise((r) => setTimeout(r, 50))) {
    if (await ok()) return;
  }
  assert.fail(`${what} did not come`);
}

/** Does something, and waits until the page has been in a state since, however briefly. */
export async function passes(page, want, act) {
  await page.evaluate((s) => {
    window.passed = false;
    new MutationObserver(() => (window.passed ||= document.documentElement.dataset.state === s)).observe(document.documentElement, { attributeFilter: ["data-state"] });
  }, want);
  await act();
  await until(`the state ${want}`, () => page.evaluate(() => window.passed), 20_000);
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
        ...document.body.innerText.split(/\s*\n\s*/).filter(Boolean).slice(0, 60),
      ].join("\n    ");
    });
    const late = new Promise((resolve) => setTimeout(resolve, 5000, "it does not answer"));
    return `  ${page.url()}: ${await Promise.race([seen, late]).catch((error) => error.message)}`;
  });
  return (await Promise.all(told)).join("\n");
}
