/** Golden vectors: the files that the tests of the node read as well. */

import { readFileSync } from "node:fs";

const FOLDER = new URL("../../../../tests/vectors/", import.meta.url);

/** Return what stands in `name`.json. */
export const loadVectors = (name) => JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8"));

export const fromHex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));

export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
