/**
 * Where the node under test is. The environment says it: MESHRELAY_TEST_WS (ws://host:port/) and MESHRELAY_TEST_HTTP
 * (http://host:port) of a node where everybody is who they say, MESHRELAY_TEST_TOKEN_WS, MESHRELAY_TEST_TOKEN_HTTP and
 * MESHRELAY_TEST_SECRET (an HS256 secret) of one that asks for tokens
 * and keeps sessions for a second (resume_seconds = 1).
 */

import { createHmac } from "node:crypto";

import { Client } from "../../meshrelay.js";

const needed = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: see test/daemon/place.js`);
  return value;
};

export const WS = needed("MESHRELAY_TEST_WS");
export const HTTP = needed("MESHRELAY_TEST_HTTP");
export const TOKEN_WS = needed("MESHRELAY_TEST_TOKEN_WS");
export const TOKEN_HTTP = needed("MESHRELAY_TEST_TOKEN_HTTP");

/** Return a JWT. */
export const makeToken = (claims) => {
  const part = (value) => Buffer.from(value).toString("base64url");
  const head = `${part('{"alg":"HS256","typ":"JWT"}')}.${part(JSON.stringify(claims))}`;
  return `${head}.${createHmac("sha256", needed("MESHRELAY_TEST_SECRET")).update(head).digest("base64url")}`;
};

let number = 0;

/** A client that is signed in, and closed at the end of the test. Users of different tests do not meet. */
export const signIn = async (context, name, options = {}, url = WS) => {
  number += 1;
  const user = `${name}-${process.pid}-${number}`;
  const client = new Client(url, { user, ...options });
  context.after(() => client.close());
  const connected = await client.connect();
  return { client, user, connected };
};

/** Return the next `count` events of a kind. */
export const nextEvents = (client, what, count = 1) =>
  new Promise((resolve) => {
    const heard = [];
    const remove = client.on(what, (event) => {
      heard.push(event);
      if (heard.length === count) {
        remove();
        resolve(heard);
      }
    });
  });
