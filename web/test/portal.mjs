// Goes through the portal as a person does, in a real browser, mostly by keyboard: from the mail with the invitation to a session and back, a forgotten password, and
// too many wrong ones. TestPortalInBrowser in internal/server starts it; the mails are in the folder ORIEL_MAILBOX.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { barriers, reach } from "./access.mjs";
import { patience, prepare, until, views } from "./views.mjs";

const portal = `${process.env.ORIEL_SERVER}/portal`;
const control = (what) => fetch(`${process.env.ORIEL_CONTROL}/${what}`, { method: "POST" });
// The same by a name, over plain HTTP: browsers tell such a server less of where a request comes from.
const named = portal.replace("127.0.0.1", "oriel.lan");
const box = join(process.env.ORIEL_MAILBOX, "new");

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP oriel.lan 127.0.0.1"],
});
const problems = [];

async function visitor(options = {}) {
  const c = await browser.newContext({ viewport: { width: 1100, height: 760 }, colorScheme: "dark", locale: "en-GB", ...options });
  await prepare(c);
  c.on("weberror", (e) => problems.push(`error in the page: ${e.error().stack}`));
  c.on("console", (m) => {
    if (m.type() === "error" && !/Failed to load resource|Cross-Origin-Opener-Policy header has been ignored/.test(m.text())) problems.push(`console: ${m.text()}`);
  });
  c.on("request", (r) => {
    if (!["127.0.0.1", "oriel.lan"].includes(new URL(r.url()).hostname)) problems.push(`a request to a third party: ${r.url()}`);
  });
  return c;
}

/** Holds a page to what every page is held to. */
const look = async (page, name) => {
  problems.push(...(await barriers(page, name)));
  assert.equal(await page.locator("h1").count(), 1);
};
/** Waits until a page is there, with what it looks like: its heading comes before that. */
const title = async (page, want) => {
  await page.getByRole("heading", { level: 1, name: want, exact: true }).waitFor();
  await page.waitForLoadState();
};
/** Waits until the page has given the focus to its first field, and types. */
const type = async (page, text) => {
  await page.waitForFunction(() => document.activeElement?.matches("input"));
  await page.keyboard.type(text);
};
const says = (page, pattern) => until(`${pattern} on the page`, async () => pattern.test((await page.textContent("body").catch(() => "")) ?? ""));

/** Waits for the mail with a subject, and gives its text. */
async function mail(subject) {
  let raw;
  await until(`a mail about ${subject}`, () =>
    readdirSync(box).some((name) => {
      raw = readFileSync(join(box, name), "utf8");
      if (!raw.includes(`Subject: ${subject}`)) return false;
      rmSync(join(box, name));
      return true;
    }),
  );
  return raw.replace(/=\r?\n/g, "").replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** The temporary password in a mail: a line of its own. */
const given = (text) => /^ {4}([a-z2-9]{4}(-[a-z2-9]{4}){3})\r?$/m.exec(text)[1];

const jane = "jane@example.com";
const first = "a horse of one's own";
const second = "another horse, a grey one";

process.on("uncaughtException", async (error) => {
  console.log(`${error.stack}\n${problems.join("\n")}\n${await views(browser).catch((fault) => fault.message)}`);
  process.exit(1);
});

const c = await visitor();
const page = await c.newPage();

// The invitation, and the first sign-in.
const welcome = await mail("Your access to applications");
const temporary = given(welcome);
assert.ok(welcome.includes(portal));
await page.goto(portal);
await title(page, "Sign in");
await look(page, "sign-in");
await type(page, jane); // the field has the focus
await page.keyboard.press("Tab");
await page.keyboard.type("not this one");
await page.keyboard.press("Enter");
await page.getByRole("alert").filter({ hasText: "is not right" }).waitFor();
await look(page, "wrong-password");
await type(page, temporary); // and now that of the password
await page.keyboard.press("Enter");
await title(page, "Choose a password");
await look(page, "first-password");
await page.goto(portal); // there is no way around it
await title(page, "Choose a password");
await type(page, jane);
await page.keyboard.press("Tab");
await page.keyboard.type(jane);
await page.keyboard.press("Enter");
await page.getByRole("alert").filter({ hasText: "easy to guess" }).waitFor();
await look(page, "weak-password");
await type(page, first);
await page.keyboard.press("Tab");
await page.keyboard.type(first);
await page.keyboard.press("Enter");
await title(page, "Your applications");
await says(page, /Your password is changed/);
await says(page, /Jane Roe/);
await look(page, "applications");
await page.reload();
await says(page, /Jane Roe/);
assert.equal(await page.getByRole("status").count(), 0); // what has been done is told once
const stack = await mail("New for you: Office & more");
assert.ok(stack.includes(portal));

// What the cookie is.
const [cookie] = (await c.cookies()).filter((k) => k.name === "oriel-portal");
assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, "Lax", "/portal"]);
assert.equal(await page.evaluate(() => document.cookie), "");

// A session and back, by keyboard: past the link that skips, and the three controls of the person.
await page.goto(portal);
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the applications");
await page.keyboard.press("Enter");
await page.waitForFunction(() => location.hash !== "");
await page.keyboard.press("Tab");
assert.match(await page.evaluate(() => document.activeElement.textContent), /Calculator/);
await page.keyboard.press("Enter");
await page.waitForURL(/\/stream\//);
await title(page, "Your session is there, without a screen"); // these machines are simulated
await look(page, "session-page");
await page.goto(portal);
await page.getByRole("button", { name: "Back to your session" }).waitFor();
await look(page, "session");
await reach(page, "Back to your session");
await page.keyboard.press("Enter");
await page.waitForURL(/\/stream\//);
const ended = await page.evaluate(() => fetch(`${location.pathname}/end`, { method: "POST" }).then((r) => r.status));
assert.equal(ended, 204);
await page.reload();
await title(page, "Your session has ended");
await look(page, "ended");
await reach(page, "Back to your applications");
await page.keyboard.press("Enter");
await title(page, "Your applications");

// Out and in again, and to another password and back, without a mouse too.
await reach(page, "Change password");
await page.keyboard.press("Enter");
await title(page, "Change your password");
await reach(page, "Cancel");
await page.keyboard.press("Enter");
await title(page, "Your applications");
await reach(page, "Sign out");
await page.keyboard.press("Enter");
await title(page, "Sign in");
await page.getByRole("status").filter({ hasText: "You are signed out" }).waitFor();
await reach(page, "Forgotten your password?");
await page.keyboard.press("Enter");
await title(page, "Forgotten your password?");
await look(page, "forgotten");
await reach(page, "Back to the sign-in");
await page.keyboard.press("Enter");
await title(page, "Sign in");
await type(page, jane);
await reach(page, "Password");
await page.keyboard.type(first);
await reach(page, "Sign in");
await page.keyboard.press("Enter");
await title(page, "Your applications");

// The only place is taken by somebody else: the page says so, and waits.
const other = await visitor();
const john = await other.newPage();
await john.route(/\/authenticate/, () => undefined); // a page that waits for a place asks again by itself; here that is up to john
await john.goto(named);
await john.getByLabel("E-mail address").fill("jörg@bücher.example");
await john.getByLabel("Password").fill(given(await mail("Your access to applications")));
await john.getByRole("button", { name: "Sign in" }).click();
await john.getByLabel("New password", { exact: true }).fill(first);
await john.getByLabel("New password, once more").fill(first);
await john.getByRole("button", { name: "Save the password" }).click();
await john.getByRole("button", { name: "Calculator" }).click();
await john.waitForURL(/\/(stream|authenticate)/);
for (const end = Date.now() + patience; !/\/stream\//.test(john.url()); ) { // the machine of the session before is replaced first
  assert.ok(Date.now() < end);
  await john.goto(named);
  await john.getByRole("button", { name: "Calculator" }).click();
  await john.waitForURL(/\/(stream|authenticate)/);
}
await page.route(/\/authenticate/, () => undefined); // so that the page stays for as long as it is looked at
await page.getByRole("button", { name: "Calculator" }).click();
await title(page, "No place is free just now");
await look(page, "no-place");
await page.goto(portal);
await page.unroute(/\/authenticate/);

// Who signs out leaves no way to his session in the browser. It goes on, so that he finds it again.
const his = john.url();
await john.goto(named);
await john.getByRole("button", { name: "Sign out" }).click();
await title(john, "Sign in");
await john.goto(his);
await title(john, "You are not signed in here");
problems.push(...(await barriers(john, "left")));
await john.getByRole("link", { name: "Back to your applications" }).click();
await title(john, "Sign in");

// A theme is the page's while it is about one stack; then it is that stack's. The other one is closed.
await control("theme");
await page.goto(portal);
await page.getByRole("img", { name: "Example University" }).waitFor();
await look(page, "themed");
await control("closed");
await page.goto(portal);
await page.getByRole("heading", { name: "Laboratory" }).waitFor();
assert.equal(await page.getByRole("button", { name: "Desktop" }).isDisabled(), true);
await look(page, "closed");

// Small, light, in German, with everything in view.
await page.setViewportSize({ width: 360, height: 740 });
await page.emulateMedia({ colorScheme: "light" });
await page.goto(portal);
await page.getByRole("link", { name: "Deutsch" }).click();
await title(page, "Ihre Anwendungen");
assert.equal(await page.getAttribute("html", "lang"), "de");
await look(page, "german");
await control("nothing");
await page.reload();
await page.getByRole("heading", { name: "Hier ist noch nichts" }).waitFor();
await look(page, "nothing");
await page.getByRole("link", { name: "Passwort ändern" }).click();
await title(page, "Passwort ändern");
await look(page, "change");
await page.getByRole("link", { name: "Abbrechen" }).click();
await page.getByRole("button", { name: "Abmelden" }).click();
await title(page, "Anmelden");
await says(page, /Sie sind abgemeldet/);
await look(page, "signed-out");
await page.goBack();
await page.reload();
await title(page, "Anmelden");

// A forgotten password.
await page.goto(portal);
await page.getByRole("link", { name: "Passwort vergessen?" }).click();
await title(page, "Passwort vergessen?");
await type(page, jane);
await page.keyboard.press("Enter");
await title(page, "Sehen Sie in Ihre E-Mails");
await look(page, "sent");
const link = /http:\S+\/reset\?code=[\w.-]+/.exec(await mail("=?UTF-8?q?Neues_Passwort_w=C3=A4hlen?="))[0];
await page.goto(link);
await title(page, "Passwort wählen");
await type(page, second);
await page.keyboard.press("Tab");
await page.keyboard.type(second);
await page.keyboard.press("Enter");
await title(page, "Anmelden");
await says(page, /Ihr Passwort ist geändert/);
await page.goto(link);
await title(page, "Dieser Link gilt nicht mehr");
await look(page, "old-link");

// Too many wrong passwords: then even the right one has to wait.
await page.setViewportSize({ width: 1100, height: 760 });
await page.goto(`${portal}`);
const attempt = async (password) => {
  await page.getByLabel("E-Mail-Adresse").fill(jane);
  await page.getByLabel("Passwort").fill(password);
  const answer = page.waitForNavigation(); // to the page that says so
  await page.getByRole("button", { name: "Anmelden" }).click();
  return (await answer).status();
};
for (let n = 0; n < 5; n++) assert.equal(await attempt("not this one"), 403);
assert.equal(await attempt(second), 429);
await page.getByRole("alert").filter({ hasText: "Zu viele Versuche" }).waitFor();
await look(page, "locked-out");

// Where people come to who have come astray.
for (const [path, name] of [["", "landing"], ["/portal/123456789012/nowhere", "nowhere"], ["/stream/ib-1", "no-stream"], ["/authenticate?ticket=x", "bad-link"]]) {
  await page.goto(process.env.ORIEL_SERVER + path);
  await look(page, name);
}

await browser.close();
console.log(problems.join("\n") || "ok");
process.exit(problems.length > 0 ? 1 : 0);
