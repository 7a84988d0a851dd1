/** Copies the client to where the daemon serves it from; `npm run build`. A test checks that both are the same. */

import { copyFileSync } from "node:fs";

const served = new URL("../../meshrelay/http/static/", import.meta.url);
for (const name of ["meshrelay.js", "meshrelay.d.ts"]) {
  copyFileSync(new URL(name, import.meta.url), new URL(name, served));
}
