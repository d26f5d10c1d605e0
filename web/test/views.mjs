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
