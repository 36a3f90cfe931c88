// Fails the build when the first load outgrows its budget: everything that index.html asks for, compressed. What is
// fetched when it is needed is listed, and not counted.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const BUDGET = 200 * 1024;
const dist = new URL("../dist/", import.meta.url).pathname;
const page = readFileSync(join(dist, "index.html"), "utf8");
const files = ["index.html", ...readdirSync(join(dist, "assets")).map((name) => `assets/${name}`)];
let total = 0;
for (const file of files) {
  const size = gzipSync(readFileSync(join(dist, file)), { level: 9 }).length;
  const first = file === "index.html" || page.includes(file);
  if (first) total += size;
  console.log(`${(size / 1024).toFixed(1).padStart(7)} KB  ${file}${first ? "" : ", when it is needed"}`);
}
console.log(
  `${(total / 1024).toFixed(1).padStart(7)} KB  first load, compressed; budget ${BUDGET / 1024} KB`,
);
process.exit(total > BUDGET ? 1 : 0);
