// Builds the viewer into internal/web/dist and writes there, into MANIFEST, the hash of every source and every result, by which
// a Go test sees whether the two are in step.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const web = dirname(fileURLToPath(import.meta.url));
const dist = join(web, "..", "internal", "web", "dist");
const novnc = join(web, "node_modules", "@novnc", "novnc");

// noVNC tries out the browser's H.264 decoder before it exports anything, which holds the first frame up. The displays of
// instances do not send H.264, so that the question is left out; noVNC then does not offer it.
const question = "supportsWebCodecsH264Decode = await _checkWebCodecsH264DecodeSupport();";
const withoutH264 = {
  name: "without-h264",
  setup: (build) =>
    build.onLoad({ filter: /novnc[\\/]core[\\/]util[\\/]browser\.js$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      if (!source.includes(question)) throw new Error(`${path} has changed: look at the question for H.264 again`);
      return { contents: source.replace(question, ""), loader: "js" };
    }),
};

await rm(dist, { recursive: true, force: true });
await mkdir(join(dist, "icons"), { recursive: true });
const options = { bundle: true, minify: true, charset: "utf8", legalComments: "none", target: "es2022", logLevel: "warning", absWorkingDir: web };
await build({ ...options, entryPoints: ["src/boot.ts"], format: "iife", outdir: dist });
await build({ ...options, entryPoints: ["src/viewer.ts"], format: "esm", outdir: dist, plugins: [withoutH264] });
// Each file is whole in itself: whoever brought in a shared one would not know its address with the hash, by which it is cached.
const parts = ["builder", "packager", "session", "panels", "worklet", "page"].map((name) => `src/${name}.ts`);
await build({ ...options, entryPoints: parts, format: "esm", outdir: dist });
// The words of each language are a script of their own, so that a page brings in those of one.
const languages = (await readdir(join(web, "src", "words"))).map((name) => name.replace(/\.ts$/, "")).filter((name) => name !== "plural");
await build({ ...options, entryPoints: languages.map((code) => ({ in: `src/words/${code}.ts`, out: `words-${code}` })), format: "esm", outdir: dist });
await build({ ...options, entryPoints: ["src/oriel.css", "src/session.css", "src/portal.css"], outdir: dist });
for (const icon of await readdir(join(web, "icons"))) {
  await cp(join(web, "icons", icon), icon === "favicon.svg" ? join(dist, icon) : join(dist, "icons", icon));
}
const { version } = JSON.parse(await readFile(join(novnc, "package.json"), "utf8"));
await writeFile(join(dist, "LICENSES.txt"), `\
viewer.js contains noVNC ${version} (https://github.com/novnc/noVNC), which is licensed under the Mozilla Public License 2.0.
It is bundled and minified, and changed in one place: the question for H.264 in core/util/browser.js is left out. Its source code is the npm package @novnc/novnc ${version}, at
https://github.com/novnc/noVNC (tag v${version}). Its licence, and those of what it contains, follow.

${"=".repeat(78)}
${await readFile(join(novnc, "LICENSE.txt"), "utf8")}
${"=".repeat(78)}
${await readFile(join(novnc, "docs", "LICENSE.MPL-2.0"), "utf8")}
${"=".repeat(78)}
pako (vendor/pako in noVNC)

${await readFile(join(novnc, "vendor", "pako", "LICENSE"), "utf8")}
${"=".repeat(78)}
DES (core/crypto/des.js in noVNC)

${(await readFile(join(novnc, "core", "crypto", "des.js"), "utf8")).match(/\/\*[\s\S]*?\*\//g).filter((c) => /copyright/i.test(c)).join("\n\n")}
`);

/** Lists the files under a folder, with / between names. */
async function files(root) {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries.filter((e) => e.isFile()).map((e) => relative(root, join(e.parentPath, e.name)).replaceAll("\\", "/"));
}

const lines = [];
const add = async (label, root, names) => {
  for (const name of names.sort()) {
    lines.push(`${createHash("sha256").update(await readFile(join(root, name))).digest("hex")}  ${label}/${name}`);
  }
};
await add("web", web, [
  "build.mjs", "package.json", "package-lock.json", "tsconfig.json",
  ...(await files(join(web, "src"))).map((f) => `src/${f}`),
  ...(await files(join(web, "icons"))).map((f) => `icons/${f}`),
]);
await add("dist", dist, await files(dist));
await writeFile(join(dist, "MANIFEST"), lines.join("\n") + "\n");
