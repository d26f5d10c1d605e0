// The script of the pages that stand where a stream would be: loads the page again when the builder's state has changed, so that
// the desktop opens by itself.
import { getInfo, Refusal } from "./info";

async function follow(version: string, state: string): Promise<void> {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  for (;;) {
    try {
      const info = await getInfo({ after: version, signal: AbortSignal.timeout(40_000) });
      if (info.state !== state) break;
      if (info.version === version) await pause(500); // the server does not wait
      version = info.version;
      const reason = document.getElementById("reason");
      if (reason) {
        reason.textContent = info.reason ?? "";
        reason.hidden = !info.reason;
      }
    } catch (error) {
      if (error instanceof Refusal && error.status < 500) break;
      await pause(2000);
    }
  }
  location.reload();
}

const { version, state } = document.body.dataset;
if (version && state) void follow(version, state);
