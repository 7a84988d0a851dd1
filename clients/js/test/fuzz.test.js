/** Whatever a node sends, the client stays whole: it closes with the right code and nothing is thrown. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, Disconnected, internals } from "../meshrelay.js";
import { coded, FakeHost, push, settle, welcomeFrame } from "./support/host.js";
import { garbage, makeRandom } from "./support/random.js";
import { fromHex, loadVectors, toHex } from "./support/vectors.js";

const { ClientMachine, Settled, SignInFailed, State, encodeFrame } = internals;

const IDENTITY = { user: "ann", clientName: "t/1", acks: true, resume: true, reconnect: true, signInSeconds: 10, wakeSeconds: 5 };

const GOOD = [
  ...loadVectors("frame").frames.map((each) => fromHex(each.hex)),
  welcomeFrame(),
  push(0, 2, Uint8Array.of(1, 2)),
  push(0, 4, coded(4000, "x")),
  push(2, 7, Uint8Array.of(9)),
  ...loadVectors("commands").pushed_message.map((each) => push(1, 113, fromHex(each.hex))),
  ...loadVectors("commands").pushed_direct.map((each) => push(1, 120, fromHex(each.hex))),
  ...loadVectors("history").logged_push.map((each) => push(1, 118, fromHex(each.hex))),
  ...loadVectors("history").presence_push.map((each) => push(1, 140, fromHex(each.hex))),
  encodeFrame(1, 4, 111, 1, coded(21, "none")),
];

test("ten thousand pieces of garbage give outputs or an end with 4502 or 4503, never an exception", () => {
  const random = makeRandom(7);
  let ended = 0;
  for (const bytes of garbage(random, GOOD, 2500)) {
    for (const isOnline of [true, false]) {
      const machine = new ClientMachine(IDENTITY, 4);
      machine.linkOpened(null, 0);
      if (isOnline) {
        machine.receive(welcomeFrame(), 0);
        machine.request({}, 1, 111, new Uint8Array(0), true, 10, 0);
      }
      const outputs = machine.receive(bytes, 1);
      const last = outputs.at(-1);
      for (const output of outputs) assert.ok(output instanceof Settled || typeof output === "object");
      if (machine.state === State.OFFLINE) {
        ended += 1;
        assert.ok(last instanceof Disconnected || last instanceof SignInFailed, toHex(bytes));
        assert.ok([1000, 4502, 4503].includes(machine.wireCloseCode), toHex(bytes));
        assert.equal(machine.pendingCount, 0);
        assert.equal(machine.nextDeadline(), null);
      } else {
        assert.ok(Number.isFinite(machine.nextDeadline()));
      }
    }
  }
  assert.ok(ended > 1000);
});

test("each kind of broken message closes the WebSocket with its code, and the client comes back", async () => {
  const tooLarge = Uint8Array.of(2, 255, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 1);
  const cases = [
    ["a text", "hello", 4502],
    ["a blob", { size: 3 }, 4502],
    ["nothing", undefined, 4502],
    ["half a header", Uint8Array.of(1, 2).buffer, 4502],
    ["half a frame", push(2, 1, new Uint8Array(9)).slice(0, 15).buffer, 4502],
    ["a frame that is too large", tooLarge.buffer, 4503],
    ["a message over 1 MiB", new ArrayBuffer((1 << 20) + 13), 4503],
    ["a group push that is cut off", push(1, 113, new Uint8Array(52).fill(103)).buffer, 4502],
    ["a message with half a place", push(1, 118, new Uint8Array(60).fill(103)).buffer, 4502],
    ["a change of nobody", push(1, 140, new Uint8Array(57).fill(103)).buffer, 4502],
    ["a user that is no UTF-8", push(1, 120, Uint8Array.of(1, 0xff)).buffer, 4502],
    ["a GOODBYE without a code", push(0, 4, Uint8Array.of(1)).buffer, 4502],
    ["a refusal without a code", encodeFrame(1, 4, 111, 77, Uint8Array.of(1)).buffer, 4502],
  ];
  for (const [name, data, code] of cases) {
    const host = new FakeHost();
    const client = new Client("ws://node.example/", { user: "ann" }, host);
    const heard = [];
    client.on("disconnected", (event) => heard.push(event));
    const connected = client.connect();
    await host.signIn();
    await connected;
    host.socket.receiveAnything(data);
    await settle();
    assert.equal(host.socket.closedWith?.code, code, name);
    assert.deepEqual([heard[0].code, heard[0].reason, heard[0].willRetry], [null, "NODE_BROKE_PROTOCOL", true], name);
    await host.advance(1);
    assert.equal(host.sockets.length, 2, name);
    await client.close();
  }
});

test("a push before the answer to HELLO, or a second answer, does no harm beyond its connection", async () => {
  const host = new FakeHost();
  const client = new Client("ws://node.example/", { user: "ann" }, host);
  const connected = client.connect();
  await settle();
  host.socket.open();
  host.socket.receive(push(2, 1));
  await assert.rejects(connected, { name: "ConnectFailed", message: /before the answer to HELLO/ });
  const again = client.connect();
  await host.signIn();
  await again;
  host.socket.receive(welcomeFrame({ sid: "f".repeat(32) }), push(0, 9), push(0, 1, Uint8Array.of(0xff)));
  await settle();
  assert.ok(client.isConnected);
  await client.close();
});

test("numbers that a node must not say do not make the client spin or sleep for ever", async () => {
  for (const heartbeat of [0, -5, 1e-9, 1e300]) {
    const host = new FakeHost();
    const client = new Client("ws://node.example/", { user: "ann" }, host);
    const connected = client.connect();
    await host.signIn({ heartbeat_seconds: heartbeat });
    await connected;
    assert.ok(host.timers.every((timer) => timer.at - host.seconds <= 86401), `heartbeat ${heartbeat}`);
    host.socket.frames();
    await host.advance(0.2);
    assert.ok(client.isConnected);
    assert.ok(host.socket.frames().length <= 3, `heartbeat ${heartbeat}`);
    if (heartbeat > 1) {
      // Behind the timers of the sign-in.
      await host.advance(11);
      assert.ok(host.timers.every((timer) => timer.at - host.seconds <= 86401));
    }
    await client.close();
  }
});
