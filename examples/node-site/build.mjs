// build.mjs TO: bundles src/main.ts and writes the page that loads it under a name made of its content.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const to = process.argv[2] ?? "dist";
mkdirSync(to, { recursive: true });
const code = execFileSync("esbuild", ["src/main.ts", "--bundle", "--minify", "--format=esm"]);
const name = `main.${createHash("sha256").update(code).digest("hex").slice(0, 8)}.js`;
writeFileSync(`${to}/${name}`, code);
writeFileSync(`${to}/index.html`, readFileSync("src/index.html", "utf8").replace("main.ts", name));
