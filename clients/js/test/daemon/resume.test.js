/** Connections that break, with a real node: nothing is lost, nothing comes twice. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../../meshrelay.js";
import { makeRandom } from "../support/random.js";
import { makeToken, nextEvents, signIn, TOKEN_WS, WS } from "./place.js";
import { CuttingProxy } from "./proxy.js";

const MESSAGES = 10000;
const BREAKS = 50;
const BATCH = 50;

const QUICK = { retryBaseSeconds: 0.02, retryCapSeconds: 0.05 };

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

test("fifty breaks, most of them inside a frame, while ten thousand messages flow: each arrives once, in order", async (context) => {
  const random = makeRandom(50);
  const proxy = new CuttingProxy(WS);
  context.after(() => proxy.close());
  const { client: ann, connected: first } = await signIn(context, "ann", QUICK, await proxy.listen());
  const { client: bob } = await signIn(context, "bob");
  const groupId = await ann.createGroup({ ttlSeconds: 60 });
  await bob.joinGroup(groupId);

  const received = [];
  const returns = [];
  let breaks = 0;
  ann.on("connected", (event) => returns.push(event));
  ann.on("disconnected", () => (breaks += 1));
  ann.on("groupMessage", (event) => {
    received.push(Number(event.message.text()));
    const planned = Math.floor((received.length * BREAKS) / (MESSAGES * 0.8));
    // One at a time: the next one is cut when the client is back.
    if (proxy.cuts === breaks && proxy.cuts < Math.min(planned, BREAKS)) proxy.cutAfter(Math.floor(random() * 400));
  });
  let sent = 0;
  // Some more where the machine was so slow that the breaks came late.
  while (sent < MESSAGES || (breaks < BREAKS && sent < 3 * MESSAGES)) {
    const batch = Array.from({ length: BATCH }, (_, index) => bob.broadcast(groupId, String(sent + index)));
    sent += BATCH;
    await Promise.all(batch);
    // So that there is something left to flow for each of the breaks.
    while (sent - received.length > 3 * BATCH) await pause(0.005);
  }
  while (received.length < sent) await pause(0.005);
  await pause(0.2);
  assert.deepEqual(received, Array.from({ length: sent }, (_, number) => number));
  assert.ok(breaks >= BREAKS, `${breaks} breaks`);
  assert.equal(returns.length, breaks);
  assert.ok(returns.every((event) => event.sid === first.sid && event.resumed && event.recovered));
});

test("what is sent while connections break arrives once when it was answered, and at most once when it was not", async (context) => {
  const random = makeRandom(51);
  const proxy = new CuttingProxy(WS);
  context.after(() => proxy.close());
  const { client: ann } = await signIn(context, "ann", QUICK, await proxy.listen());
  const { client: bob } = await signIn(context, "bob");
  const groupId = await bob.createGroup({ ttlSeconds: 60 });
  await ann.joinGroup(groupId);
  const received = [];
  bob.on("groupMessage", (event) => received.push(Number(event.message.text())));
  const taken = new Set();
  const unknown = new Set();
  const calls = [];
  for (let number = 0; number < 2000; number += 1) {
    if (number % 100 === 50) proxy.cutAfter(Math.floor(random() * 100));
    while (!ann.isConnected) await pause(0.005);
    const call = ann.broadcast(groupId, String(number)).then(
      () => taken.add(number),
      (error) => {
        if (error.name === "ConnectionLost") unknown.add(number);
        else assert.equal(error.name, "NotConnected");
      },
    );
    calls.push(call);
    if (number % 5 === 0) await call;
  }
  await Promise.all(calls);
  await bob.ping();
  await pause(0.2);
  assert.ok(proxy.cuts >= 10 && unknown.size > 0 && taken.size > 1000);
  assert.deepEqual(received, [...received].sort((one, other) => one - other));
  assert.equal(new Set(received).size, received.length);
  const arrived = new Set(received);
  for (const number of taken) assert.ok(arrived.has(number), `${number} was taken and did not arrive`);
  for (const number of arrived) assert.ok(taken.has(number) || unknown.has(number), `${number} was never sent`);
});

test("a session whose time is over is a new one, without its groups", async (context) => {
  const proxy = new CuttingProxy(TOKEN_WS);
  context.after(() => proxy.close());
  // That node keeps sessions for a second only, and the client comes back after two.
  const options = { token: makeToken({ sub: "late" }), retryBaseSeconds: 2 };
  const client = new Client(await proxy.listen(), options, { random: () => 0.99 });
  context.after(() => client.close());
  const first = await client.connect();
  const groupId = await client.createGroup({ ttlSeconds: 60 });
  const back = nextEvents(client, "connected");
  proxy.cutAfter(0);
  const [second] = await back;
  assert.deepEqual([second.resumed, second.recovered], [false, false]);
  assert.notEqual(second.sid, first.sid);
  assert.deepEqual(await client.listGroups(), []);
  await assert.rejects(client.joinGroup(groupId), { name: "GroupNotFound" });
});
