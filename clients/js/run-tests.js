/**
 * Runs the tests: `npm test`, or `npm test daemon` for those that need a node (see test/daemon/place.js), and
 * `npm test cluster` for those that need two (see test/cluster/history.test.js).
 *
 * Node 20 has a WebSocket behind a switch, newer ones without.
 */

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = new URL(["daemon", "cluster"].includes(process.argv[2]) ? `test/${process.argv[2]}/` : "test/", import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith(".test.js"));
const switches = typeof WebSocket === "undefined" ? ["--experimental-websocket", "--no-warnings"] : [];
const paths = files.sort().map((name) => fileURLToPath(new URL(name, folder)));
const done = spawnSync(process.execPath, [...switches, "--test", ...paths], { stdio: "inherit" });
process.exit(done.status ?? 1);
