/** The types and the module have the same names. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as meshrelay from "../meshrelay.js";

const types = readFileSync(new URL("../meshrelay.d.ts", import.meta.url), "utf8");

/** The members of a class as the types have them, without its constructor. */
const declared = (name) => {
  const [, body] = types.match(new RegExp(`class ${name}\\b[^{]*\\{\\n([^]*?)\\n\\}`));
  const names = [...body.matchAll(/^ {2}(?:get |readonly |static readonly )*(\[?[\w.]+\]?)[(<:]/gm)].map((match) => match[1]);
  return [...new Set(names)].filter((each) => each !== "constructor").sort();
};

test("what the types say is exported is what is exported", () => {
  const names = [...types.matchAll(/^export (?:abstract )?(?:class|const) (\w+)/gm)].map((match) => match[1]);
  assert.deepEqual(names.sort(), Object.keys(meshrelay).sort());
});

test("every class has the methods that its types say", () => {
  for (const name of ["Client", "PayloadReader", "PayloadWriter", "Message", "EventStream"]) {
    const prototype = meshrelay[name].prototype;
    const own = Object.getOwnPropertyNames(prototype).filter((each) => each !== "constructor");
    const fields = name === "EventStream" ? ["dropped", "[Symbol.asyncIterator]"] : [];
    assert.deepEqual(declared(name), [...own, ...fields].sort(), name);
  }
});

test("every name of an event and every option is in the types", () => {
  const [, map] = types.match(/interface EventMap \{([^}]*)\}/);
  const names = [...map.matchAll(/^ {2}(\w+): (\w+);/gm)];
  const client = new meshrelay.Client("ws://h/", { user: "ann" });
  for (const [, name, Class] of names) {
    client.on(name, () => {});
    if (name !== "event") assert.equal(meshrelay[Class].prototype.name, name);
  }
  const [, options] = types.match(/interface ClientOptions \{([^]*?)\n\}/);
  const known = [...options.matchAll(/^ {2}(\w+)\?:/gm)].map((match) => match[1]);
  assert.throws(
    () => new meshrelay.Client("ws://h/", { nosuch: 1 }),
    (error) => error.message === `there is no option nosuch: known are ${known.join(", ")}`,
  );
});
