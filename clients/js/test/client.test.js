/** The client against a node that is played by the test: signing in, asking, breaks, sleep, back pressure. */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";

import * as meshrelay from "../meshrelay.js";
import { coded, FakeHost, joinBytes, push, settle, SID, text, welcomeFrame } from "./support/host.js";

const { Client, internals } = meshrelay;
const { encodeFrame } = internals;

const GID = "g".repeat(52);
const URL_OF_NODE = "ws://node.example:7300/";

const decode = (bytes) => new TextDecoder().decode(bytes);

/** A client that is signed in, its world, and what it has told. */
const online = async (options = {}, changes = {}) => {
  const host = new FakeHost();
  const client = new Client(URL_OF_NODE, { user: "ann", ...options }, host);
  const heard = [];
  client.on("event", (event) => heard.push(event));
  const connected = client.connect();
  await host.signIn(changes);
  await connected;
  heard.length = 0;
  return { host, client, heard };
};

const answer = (host, frame, status = 1, payload = new Uint8Array(0)) =>
  host.socket.receive(encodeFrame(frame.ver, status, frame.cmd, frame.requestId, payload));

const groupPush = (number) => push(1, 113, joinBytes(text(GID), [3], text("bob"), text(String(number))));

test("HELLO comes first and names the user, the program and that it acknowledges", async () => {
  const host = new FakeHost();
  const client = new Client(URL_OF_NODE, { user: "ann", token: "jwt", clientName: "game/1" }, host);
  const connected = client.connect();
  const hello = await host.signIn({ node: "n7" });
  assert.deepEqual(hello, { protocol: 1, user: "ann", token: "jwt", client: "game/1", acks: true });
  const event = await connected;
  assert.deepEqual({ ...event }, { userId: "ann", nodeId: "n7", sid: SID, resumed: false, recovered: false });
  assert.ok(client.isConnected);
  assert.equal(await client.connect(), event);
});

test("the token is asked anew at each connect, from a function or a promise", async () => {
  let number = 0;
  const sources = [() => `t${(number += 1)}`, async () => `t${(number += 1)}`];
  for (const token of sources) {
    number = 0;
    const host = new FakeHost();
    const client = new Client(URL_OF_NODE, { user: "ann", token }, host);
    client.connect();
    assert.equal((await host.signIn()).token, "t1");
    host.socket.end();
    await host.advance(1);
    assert.equal((await host.signIn()).token, "t2");
    await client.close();
  }
});

test("a token function that fails fails the connect, with its error as the cause", async () => {
  for (const token of [() => { throw new Error("no key"); }, async () => { throw new Error("no key"); }, () => 7]) {
    const client = new Client(URL_OF_NODE, { token }, new FakeHost());
    await assert.rejects(client.connect(), (error) => error instanceof meshrelay.ConnectFailed && error.cause instanceof Error);
  }
});

test("a refused sign-in says why and is not tried again; a node that drains is", async () => {
  const cases = [
    [encodeFrame(0, 4, 1, internals.HELLO_ID, coded(3, "not signed in")), "SignInRefused", null, false],
    [push(0, 4, coded(4501, "sign-in refused")), "SignInRefused", 4501, false],
    [encodeFrame(0, 5, 1, internals.HELLO_ID, coded(9, "draining")), "SignInRefused", null, true],
  ];
  for (const [frame, name, closeCode, comesBack] of cases) {
    const { host, client, heard } = await online();
    host.socket.end();
    await host.advance(1);
    host.socket.open();
    host.socket.receive(frame);
    await host.advance(2);
    assert.equal(host.sockets.length, comesBack ? 3 : 2);
    const last = heard.at(-1);
    assert.equal(last.willRetry, comesBack);
    if (!comesBack) assert.deepEqual([last.code, last.reason], [closeCode, closeCode === null ? "GAVE_UP" : "BAD_TOKEN"]);
    await client.close();
    const first = new FakeHost();
    const connecting = new Client(URL_OF_NODE, { user: "ann" }, first).connect();
    await settle();
    first.socket.open();
    first.socket.receive(frame);
    await assert.rejects(connecting, { name, closeCode });
  }
});

test("the first connect fails when nobody is there, or goes on trying when told so", async () => {
  const host = new FakeHost();
  const failing = new Client(URL_OF_NODE, { user: "ann" }, host).connect();
  await settle();
  host.socket.end();
  await assert.rejects(failing, { name: "ConnectFailed", url: URL_OF_NODE });
  assert.deepEqual(host.timers, []);
  const patient = new Client(URL_OF_NODE, { user: "ann", retryFirst: true }, host);
  const connected = patient.connect();
  for (let number = 0; number < 5; number += 1) {
    await settle();
    host.socket.end();
    await host.advance(30);
  }
  await host.signIn();
  await connected;
  await patient.close();
});

test("a WebSocket that tells of a failed connection by an error alone is understood", async () => {
  const host = new FakeHost();
  const failing = new Client(URL_OF_NODE, { user: "ann" }, host).connect();
  await settle();
  host.socket.onerror({});
  await assert.rejects(failing, { name: "ConnectFailed", message: /allowed_origins/ });
});

test("a node that accepts and says nothing, or a connection that does not open, is given up in time", async () => {
  for (const isOpen of [false, true]) {
    const host = new FakeHost();
    const failing = new Client(URL_OF_NODE, { user: "ann", connectTimeoutSeconds: 3 }, host).connect();
    failing.catch(() => {});
    await settle();
    if (isOpen) host.socket.open();
    await host.advance(2.9);
    assert.equal(host.socket.closedWith, null);
    await host.advance(0.2);
    await assert.rejects(failing, { name: "ConnectFailed" });
    assert.notEqual(host.socket.closedWith, null);
  }
});

test("a late token of a connect that was given up opens nothing", async () => {
  const host = new FakeHost();
  let give;
  const client = new Client(URL_OF_NODE, { token: () => new Promise((resolve) => (give = resolve)) }, host);
  const connecting = client.connect();
  await settle();
  await client.close();
  await assert.rejects(connecting, { name: "NotConnected" });
  give("late");
  await settle();
  assert.deepEqual([host.sockets.length, host.timers.length], [0, 0]);
});

test("an http address asks the node where to connect, each time, and a refusal of it is one of the sign-in", async () => {
  const host = new FakeHost();
  host.answers.push({ status: 200, body: { serverType: "WS", serverHost: "2001:db8::1", serverPort: 7311 } });
  const client = new Client("http://node.example:7000", { user: "a/b", token: "jwt" }, host);
  client.connect();
  await host.signIn();
  assert.equal(host.fetched[0].url, "http://node.example:7000/endpoint/type/WS/user/a%2Fb");
  assert.deepEqual(host.fetched[0].options.headers, { Authorization: "Bearer jwt" });
  assert.equal(host.socket.url, "ws://[2001:db8::1]:7311/");
  host.answers.push({ status: 503, body: "later" }, { status: 401, body: "no" });
  const last = new Promise((resolve) => client.on("disconnected", (event) => !event.willRetry && resolve(event)));
  host.socket.end();
  await host.advance(3);
  const event = await last;
  assert.deepEqual([event.reason, host.fetched.length], ["GAVE_UP", 3]);
  assert.match(event.text, /401/);
  for (const body of ["", "[]", { serverType: "WS", serverHost: "h", serverPort: 1e9 }, { serverType: "TCP", serverHost: "h", serverPort: 1 }]) {
    host.answers.push({ status: 200, body });
    await assert.rejects(client.connect(), { name: "ConnectFailed" });
  }
});

test("without an address the page's own host is asked", async () => {
  const host = new FakeHost();
  host.location = new URL("https://game.example/play?x=1");
  host.answers.push({ status: 200, body: { serverType: "WSS", serverHost: "game.example", serverPort: 7300 } });
  const client = new Client({ user: "ann" }, undefined, host);
  client.connect();
  await host.signIn();
  assert.equal(host.fetched[0].url, "https://game.example/endpoint/type/WSS/user/ann");
  assert.equal(host.socket.url, "wss://game.example:7300/");
  await client.close();
});

test("what cannot be an address, a user or an option is said at once", () => {
  for (const url of ["tcp://h:1", "nonsense", "ws://ann@h/", "file:///x"]) {
    assert.throws(() => new Client(url, { user: "ann" }, new FakeHost()), TypeError, url);
  }
  assert.throws(() => new Client(null, { user: "ann" }, new FakeHost()), /no page/);
  assert.throws(() => new Client("http://h/", {}, new FakeHost()), /needs the user/);
  assert.throws(() => new Client(URL_OF_NODE, { user: "" }, new FakeHost()), /1 to 128/);
  assert.throws(() => new Client(URL_OF_NODE, { usre: "x" }, new FakeHost()), /no option usre/);
  for (const wrong of [{ retryBaseSeconds: 0 }, { maxUnsentBytes: NaN }, { retryBaseSeconds: 40 }]) {
    assert.throws(() => new Client(URL_OF_NODE, { user: "ann", ...wrong }, new FakeHost()), RangeError);
  }
});

test("where there is no WebSocket the error says what to do", async () => {
  const host = new FakeHost();
  host.WebSocket = undefined;
  await assert.rejects(new Client(URL_OF_NODE, { user: "ann" }, host).connect(), /options\.WebSocket/);
});

test("each method sends its command as the protocol has it and reads its answer", async () => {
  const { host, client } = await online();
  const gid = text(GID);
  const cases = [
    [() => client.createGroup({ ttlSeconds: 60 }), 110, "020000003c0000", gid, GID],
    [() => client.joinGroup(GID, "hi"), 111, [gid, "hi"], [], undefined],
    [() => client.leaveGroup(GID), 112, [gid], [], undefined],
    [() => client.broadcast(GID, Uint8Array.of(1, 2)), 113, [gid, "\x01\x02"], [], undefined],
    [() => client.joinRandomGroup({ ttlSeconds: 60 }), 114, "0000003c000000", [1, ...gid], { created: true, groupId: GID }],
    [() => client.joinGroup(GID, "hi", { recover: true }), 118, [gid, "\0".repeat(16), "hi"], [0, ...new Uint8Array(16)], undefined],
    [() => client.history(GID, { after: 2, limit: 9 }), 119, [gid, "\0\0\0\0\0\0\0\x02\0\x09"], new Uint8Array(24), { epoch: "0", head: 0, messages: [] }],
    [() => client.presence(GID, { limit: 1 }), 140, [gid, "\0\0\x01"], [0, 0, 0, 1, 2, 1, 98], { count: 1, members: [{ userId: "b", isAway: true }] }],
    [() => client.listGroups(), 115, "", [...gid, ...gid], [GID, GID]],
    [() => client.createRoom({ maxMembers: 8, ttlSeconds: 60 }), 100, "0008020000003c0000", gid, GID],
    [() => client.joinRoom(GID, "hi"), 101, [gid, "hi"], [3, ...text("bob")], "bob"],
    [() => client.leaveRoom(GID), 102, [gid], [], undefined],
    [() => client.broadcastRoom(GID, "hi"), 103, [gid, "hi"], [], undefined],
    [() => client.roomMembers(GID), 104, [gid], [1, 98, 1, 98, 1, 99], { owner: "b", members: ["b", "c"] }],
    [() => client.sendDirect("bob", "hi"), 120, ["\x03bobhi"], [], undefined],
    [() => client.clearDirect("bob"), 121, ["\x03bob"], [], undefined],
  ];
  for (const [ask, cmd, payload, answered, result] of cases) {
    const promise = ask();
    await settle();
    const [frame, ...others] = host.socket.frames();
    assert.deepEqual([others.length, frame.ver, frame.cmd, frame.status], [0, 1, cmd, 1]);
    const hex = Buffer.from(frame.payload).toString("hex");
    const wanted = typeof payload === "string" ? payload : Buffer.concat(payload.map((part) => Buffer.from(part))).toString("hex");
    assert.equal(hex, wanted, `command ${cmd}`);
    answer(host, frame, 1, Uint8Array.from(answered));
    assert.deepEqual(await promise, result, `command ${cmd}`);
  }
  await client.close();
});

test("an answer that cannot be read is the node's fault, and the connection lives", async () => {
  const { host, client } = await online();
  const promise = client.createGroup();
  await settle();
  answer(host, host.socket.frames()[0], 1, text("short"));
  await assert.rejects(promise, { name: "RemoteProtocolError" });
  assert.ok(client.isConnected);
});

test("commands of the application go out as they are, and their answers are bytes with a text", async () => {
  const { host, client } = await online();
  const promise = client.request(7, 8, "question", { reliable: false });
  await settle();
  const [frame] = host.socket.frames();
  assert.deepEqual([frame.ver, frame.cmd, frame.status, decode(frame.payload)], [7, 8, 0, "question"]);
  answer(host, frame, 1, text("änswer"));
  const message = await promise;
  assert.ok(message instanceof Uint8Array);
  assert.equal(message.text(), "änswer");
  client.send(7, 9, Float32Array.of(1));
  client.send(7, 9, new Uint8Array([1, 2]).buffer);
  client.broadcastNowait(GID, "x");
  await settle();
  const sent = host.socket.frames();
  assert.deepEqual(sent.map((each) => [each.requestId, each.payload.length]), [[0, 4], [0, 2], [0, 53]]);
  await assert.rejects(client.request(7, 8, 12), TypeError);
  await assert.rejects(client.request(256, 8), RangeError);
  await assert.rejects(client.request(7, 65536), RangeError);
  assert.throws(() => client.send(7, -1), RangeError);
});

test("a refusal is an error of its class, with code, fault and text; a newer node's code is not lost", async () => {
  const { host, client } = await online();
  for (const [status, code, name] of [[4, 21, "GroupNotFound"], [5, 6, "TimedOut"], [4, 999, "CommandError"], [5, 21, "GroupNotFound"]]) {
    const promise = client.joinGroup(GID);
    await settle();
    answer(host, host.socket.frames()[0], status, coded(code, "why"));
    await assert.rejects(promise, (error) => {
      assert.ok(error instanceof meshrelay.CommandError && error instanceof meshrelay[name]);
      assert.deepEqual([error.name, error.code, error.status, error.message], [name, code, status, "why"]);
      return error.isNodesFault === (status === 5);
    });
  }
});

test("ping takes the time of a round trip, and only its own bytes are an answer", async () => {
  const { host, client } = await online();
  const promise = client.ping();
  await settle();
  const [frame] = host.socket.frames();
  assert.deepEqual([frame.ver, frame.cmd, frame.payload.length], [0, 2, 8]);
  host.seconds += 0.25;
  answer(host, frame, 1, frame.payload);
  assert.equal(await promise, 0.25);
  const wrong = client.ping();
  await settle();
  answer(host, host.socket.frames()[0], 1, new Uint8Array(8));
  await assert.rejects(wrong, { name: "RemoteProtocolError" });
});

test("every push becomes its event, by class and by name", async () => {
  const { host, client, heard } = await online();
  const place = (cmd) => push(1, cmd, joinBytes(text(GID), [3], text("bob"), text("hi")));
  const frames = [
    ...[113, 111, 112, 116, 117, 103, 101, 102, 106].map(place),
    push(1, 105, joinBytes(text(GID), [3], text("bob"))),
    ...[120, 121, 122].map((cmd) => push(1, cmd, joinBytes([3], text("bob"), text("hi")))),
    push(1, 120, joinBytes([0], text("hi"))),
    push(2, 5, text("hi")),
    push(1, 199, text("hi")),
  ];
  host.socket.receive(...frames);
  const names = ["groupMessage", "groupJoined", "groupLeft", "groupLost", "groupBack", "roomMessage", "roomJoined", "roomLeft"];
  names.push("roomLost", "roomOwner", "directMessage", "directCleared", "directPeerGone", "directMessage", "pushReceived");
  assert.deepEqual(heard.map((event) => event.name), [...names, "pushReceived"]);
  assert.ok(heard[0] instanceof meshrelay.GroupMessageReceived);
  assert.deepEqual([heard[0].groupId, heard[0].userId, heard[0].message.text()], [GID, "bob", "hi"]);
  assert.deepEqual([heard[5].roomId, heard[9].owner, heard[13].userId], [GID, "bob", ""]);
  assert.deepEqual([heard[15].ver, heard[15].cmd, heard[15].payload.text()], [1, 199, "hi"]);
  // The bytes are the event's own: the message that brought them is not kept for their sake.
  assert.equal(heard[0].message.buffer.byteLength, 2);
});

test("a callback that throws or rejects is told on the console, harms nobody, and can be taken away", async (context) => {
  const errors = context.mock.method(console, "error", () => {});
  const { host, client, heard } = await online();
  const removeOne = client.on("groupMessage", () => { throw new Error("one"); });
  const removeTwo = client.on(meshrelay.GroupMessageReceived, async () => { throw new Error("two"); });
  const good = [];
  client.on("groupMessage", (event) => good.push(event.message.text()));
  host.socket.receive(groupPush(1), groupPush(2));
  await settle();
  assert.deepEqual([good, heard.length, errors.mock.callCount()], [["1", "2"], 2, 4]);
  removeOne();
  removeTwo();
  host.socket.receive(groupPush(3));
  await settle();
  assert.deepEqual([good.length, errors.mock.callCount()], [3, 4]);
  for (const wrong of ["nosuch", "toString", Date, undefined]) assert.throws(() => client.on(wrong, () => {}), TypeError);
});

test("a callback that an earlier one has ended is not called any more", async () => {
  const { host, client } = await online();
  const heard = [];
  client.on("groupMessage", () => removeLater());
  const removeLater = client.on("groupMessage", () => heard.push("later"));
  client.on("groupMessage", () => heard.push("last"));
  host.socket.receive(groupPush(1));
  assert.deepEqual(heard, ["last"]);
});

test("a request that is not answered fails in time, a late answer is passed over, an abort only stops the waiting", async () => {
  const { host, client } = await online({ requestTimeoutSeconds: 2, maxPendingRequests: 3 });
  const slow = client.joinGroup(GID);
  const patient = client.request(2, 1, "", { timeoutSeconds: 5 });
  const stop = new AbortController();
  const aborted = client.request(2, 2, "", { signal: stop.signal });
  slow.catch(() => {});
  await settle();
  const frames = host.socket.frames();
  stop.abort(new Error("enough"));
  await assert.rejects(aborted, /enough/);
  const kept = new AbortController();
  const inPlaceOfIt = client.request(2, 3, "", { signal: kept.signal });
  await settle();
  answer(host, host.socket.frames()[0]);
  await inPlaceOfIt;
  assert.equal(getEventListeners(kept.signal, "abort").length, 0);
  await assert.rejects(client.request(2, 2, "", { signal: stop.signal }), /enough/);
  await host.advance(1.9);
  await host.advance(0.2);
  await assert.rejects(slow, { name: "TimedOut", message: /2 seconds/ });
  host.socket.receive(...frames.map((frame) => encodeFrame(frame.ver, 1, frame.cmd, frame.requestId, text("late"))));
  assert.equal((await patient).text(), "late");
  assert.ok(client.isConnected);
});

test("requests and bytes that wait have a bound, and whoever waits for the node is told when it has caught up", async () => {
  const { host, client } = await online({ maxPendingRequests: 2, maxUnsentBytes: 1000 });
  const open = [client.listGroups(), client.listGroups()];
  await assert.rejects(client.listGroups(), { name: "TooManyPending", limit: 2 });
  await settle();
  for (const frame of host.socket.frames()) answer(host, frame);
  await Promise.all(open);
  assert.ok((await client.whenDrained()) === undefined);
  host.socket.bufferedAmount = 950;
  assert.throws(() => client.broadcastNowait(GID, "x"), { name: "UnsentFull", unsentBytes: 950, limitBytes: 1000 });
  await assert.rejects(client.broadcast(GID, "x"), { name: "UnsentFull" });
  let isDrained = false;
  client.whenDrained().then(() => (isDrained = true));
  await host.advance(1);
  assert.equal(isDrained, false);
  host.socket.bufferedAmount = 100;
  await host.advance(0.1);
  assert.equal(isDrained, true);
  client.broadcastNowait(GID, new Uint8Array(500));
  assert.equal(client.unsentBytes, 100 + 12 + 52 + 500);
  assert.throws(() => client.broadcastNowait(GID, new Uint8Array(500)), { name: "UnsentFull" });
  await settle();
  host.socket.bufferedAmount = 0;
  client.send(2, 1, new Uint8Array(5000));
  await settle();
  await assert.rejects(client.broadcast(GID, new Uint8Array(65536)), { name: "MessageTooLarge" });
});

test("a node that asks and does not read is given up", async () => {
  const { host, heard } = await online({ maxUnsentBytes: 1000 });
  host.socket.bufferedAmount = 2100;
  host.socket.receive(push(0, 2, text("ping")));
  assert.equal(heard.at(-1).reason, "NODE_DOES_NOT_READ");
});

test("what is sent in one turn goes out together, in order, in messages of 64 KiB", async () => {
  const { host, client } = await online();
  for (let number = 0; number < 3000; number += 1) client.send(2, number, new Uint8Array(100));
  await settle();
  assert.ok(host.socket.sent.length < 10);
  assert.ok(host.socket.sent.every((message) => message.length <= 65536));
  assert.deepEqual(host.socket.frames().map((frame) => frame.cmd), Array.from({ length: 3000 }, (_, cmd) => cmd));
});

test("the node's PING is answered at once with the same bytes", async () => {
  const { host } = await online();
  host.socket.receive(push(0, 2, text("12345678")));
  await settle();
  const [pong] = host.socket.frames();
  assert.deepEqual([pong.ver, pong.cmd, pong.requestId, decode(pong.payload)], [0, 3, 0, "12345678"]);
});

test("pushes are acknowledged after a second, or as soon as much has come, and not when timers are late", async () => {
  const { host } = await online();
  host.socket.receive(groupPush(1), groupPush(2), push(0, 2));
  await host.advance(0.5);
  assert.deepEqual(host.socket.frames().map((frame) => frame.cmd), [3]);
  await host.advance(0.6);
  const [ack] = host.socket.frames();
  assert.deepEqual([ack.cmd, ...ack.payload], [5, 0, 0, 0, 2]);
  host.socket.receive(push(2, 1, new Uint8Array(65536)));
  await settle();
  assert.deepEqual([...host.socket.frames()[0].payload], [0, 0, 0, 3]);
  // A hidden page: no timer fires, but what comes in is seen.
  host.socket.receive(groupPush(4));
  host.seconds += 1.5;
  host.socket.receive(groupPush(5));
  await settle();
  assert.deepEqual([...host.socket.frames()[0].payload], [0, 0, 0, 5]);
});

test("a break fails what is unanswered, keeps nothing for later, and the session goes on with its count", async () => {
  const { host, client, heard } = await online();
  host.socket.receive(groupPush(1), groupPush(2), groupPush(3));
  const pending = client.broadcast(GID, "x");
  pending.catch(() => {});
  await settle();
  heard.length = 0;
  const old = host.socket;
  host.socket.end();
  await assert.rejects(pending, { name: "ConnectionLost", closeCode: null });
  assert.deepEqual({ ...heard[0] }, { code: null, reason: "BROKEN", text: "the connection broke", willRetry: true });
  await assert.rejects(client.broadcast(GID, "x"), { name: "NotConnected" });
  assert.throws(() => client.broadcastNowait(GID, "x"), { name: "NotConnected" });
  await host.advance(0.6);
  const hello = await host.signIn({ resumed: true, recovered: true });
  assert.deepEqual([hello.resume, hello.received], [SID, 3]);
  assert.deepEqual(host.socket.frames(), []);
  host.socket.receive(groupPush(4));
  assert.equal(heard.at(-1).message.text(), "4");
  old.onmessage({ data: groupPush(99).buffer });
  assert.equal(heard.at(-1).message.text(), "4");
  host.socket.end();
  await host.advance(2);
  assert.equal((await host.signIn()).received, 4);
  host.socket.end();
  await host.advance(4);
  assert.equal((await host.signIn()).received, 0);
});

test("an ACK that was due before a break is not sent after it: HELLO has told the count", async () => {
  const { host } = await online({ retryBaseSeconds: 0.1 });
  host.socket.receive(groupPush(1));
  host.socket.end();
  await host.advance(0.2);
  await host.signIn({ resumed: true, recovered: true });
  await host.advance(3);
  assert.deepEqual(host.socket.frames(), []);
});

test("a push that cannot be read is counted: a resume goes on behind it", async () => {
  const { host } = await online();
  host.socket.receive(groupPush(1), push(1, 113, text("cut off")));
  await host.advance(1);
  assert.equal((await host.signIn({ resumed: true, recovered: true })).received, 2);
});

test("without acks or resume HELLO asks for none, and nothing is acknowledged", async () => {
  const { host } = await online({ acks: false });
  host.socket.receive(groupPush(1));
  await host.advance(3);
  assert.deepEqual(host.socket.frames(), []);
  host.socket.end();
  await host.advance(1);
  const hello = await host.signIn();
  assert.deepEqual([hello.acks, hello.resume, hello.received], [undefined, SID, undefined]);
  const other = await online({ resume: false });
  other.host.socket.end();
  await other.host.advance(1);
  assert.equal((await other.host.signIn()).resume, undefined);
});

test("close codes from 4500 end the client, those below bring it back; both come from GOODBYE or the close frame", async () => {
  for (const isGoodbye of [true, false]) {
    for (const [code, reason, willRetry] of [[4000, "DRAINING", true], [4500, "REPLACED", false], [4499, "UNKNOWN", true], [4999, "UNKNOWN", false]]) {
      const { host, client, heard } = await online();
      if (isGoodbye) host.socket.receive(push(0, 4, coded(code, "why")));
      else host.socket.end(code, "why", true);
      await settle();
      assert.deepEqual({ ...heard[0] }, { code, reason, text: "why", willRetry });
      await host.advance(1);
      assert.equal(host.sockets.length, willRetry ? 2 : 1);
      if (!willRetry) {
        assert.deepEqual([host.timers.length, host.window.count, host.document.count], [0, 0, 0]);
        client.connect();
        await host.advance(0);
        assert.equal((await host.signIn()).resume, undefined);
      }
      await client.close();
    }
  }
});

test("delays are uniform below a limit that doubles up to the cap, and begin anew after a sound connection", async () => {
  const { host, client } = await online({ retryBaseSeconds: 1, retryCapSeconds: 5 });
  const delays = [];
  for (let number = 0; number < 5; number += 1) {
    host.socket.end();
    await settle();
    const before = host.seconds;
    delays.push(Math.round(Math.max(...host.timers.map((timer) => timer.at)) - before));
    await host.advance(6);
  }
  assert.deepEqual(delays, [1, 2, 4, 5, 5]);
  await host.signIn();
  await host.advance(6);
  host.share = 0.25;
  host.socket.end();
  await settle();
  assert.equal(host.timers[0].at - host.seconds, 0.25);
  await client.close();
  assert.deepEqual(host.timers, []);
});

test("close says GOODBYE behind what was sent before, and leaves no timer, listener or session", async () => {
  const { host, client, heard } = await online();
  const stream = client.events();
  client.broadcastNowait(GID, "last words");
  const pending = client.listGroups();
  pending.catch(() => {});
  await client.close();
  await assert.rejects(pending, { name: "ConnectionLost" });
  assert.deepEqual(host.socket.frames().map((frame) => [frame.ver, frame.cmd]), [[1, 113], [1, 115], [0, 4]]);
  assert.equal(host.socket.closedWith.code, 1000);
  assert.deepEqual([heard.at(-1).reason, heard.at(-1).willRetry], ["CLOSED", false]);
  assert.deepEqual([host.timers.length, host.window.count, host.document.count], [0, 0, 0]);
  assert.equal((await stream.next()).value.name, "disconnected");
  assert.equal((await stream.next()).done, true);
  await client.close();
  client.connect();
  assert.equal((await host.signIn()).resume, undefined);
  await client.close();
});

test("a client that is closed between two connections says so, and its streams end", async () => {
  for (const isConnecting of [false, true]) {
    const { host, client, heard } = await online();
    const stream = client.events({ of: "disconnected" });
    host.socket.end();
    await settle();
    if (isConnecting) await host.advance(1);
    await client.close();
    assert.deepEqual(heard.map((event) => [event.reason, event.willRetry]), [["BROKEN", true], ["CLOSED", false]]);
    for (const willRetry of [true, false]) assert.equal((await stream.next()).value.willRetry, willRetry);
    assert.equal((await stream.next()).done, true);
    await client.close();
    assert.deepEqual([heard.length, host.timers.length], [2, 0]);
  }
  const never = new Client(URL_OF_NODE, { user: "ann", retryFirst: true }, new FakeHost());
  const stream = never.events();
  never.connect().catch(() => {});
  await never.close();
  assert.equal((await stream.next()).done, true);
});

test("close does not wait for ever for a node that does not answer it", async () => {
  const { host, client } = await online();
  host.socket.close = () => {};
  let isClosed = false;
  client.close().then(() => (isClosed = true));
  await host.advance(1.9);
  assert.equal(isClosed, false);
  await host.advance(0.2);
  assert.equal(isClosed, true);
});

test("a callback may close the client, and hears of no return then", async () => {
  const { host, client, heard } = await online();
  client.on("groupMessage", () => client.close());
  host.socket.receive(groupPush(1), push(0, 4, coded(4000, "stopping")));
  await host.advance(40);
  assert.equal(host.sockets.length, 1);
  assert.equal(heard.at(-1).willRetry, false);
  assert.deepEqual(host.timers, []);
});

test("silence is probed after 1.25 heartbeats and ends the connection after 2.5; any sign of life counts", async () => {
  const { host, heard } = await online({}, { heartbeat_seconds: 10 });
  await host.advance(12.4);
  assert.deepEqual(host.socket.frames(), []);
  await host.advance(0.2);
  const [probe] = host.socket.frames();
  assert.deepEqual([probe.ver, probe.cmd, probe.requestId], [0, 2, internals.PROBE_ID]);
  await host.advance(10);
  answer(host, probe);
  await host.advance(24);
  assert.deepEqual(heard, []);
  await host.advance(1.2);
  assert.deepEqual([heard[0].reason, heard[0].willRetry], ["SILENT", true]);
});

test("a page whose timers run once a minute stays connected while the node is heard", async () => {
  const { host, client, heard } = await online({}, { heartbeat_seconds: 25 });
  let pongs = 0;
  for (let minute = 0; minute < 10; minute += 1) {
    // Between them the node's PINGs come, and each is answered; and the node answers ours.
    for (let beat = 0; beat < 2; beat += 1) {
      host.seconds += 25;
      host.socket.receive(push(0, 2, text("beat")));
      await settle();
    }
    await host.sleep(10);
    const frames = host.socket.frames();
    pongs += frames.filter((frame) => frame.cmd === 3).length;
    frames.filter((frame) => frame.cmd === 2).forEach((frame) => answer(host, frame));
  }
  assert.ok(client.isConnected);
  assert.deepEqual([heard, pongs], [[], 20]);
});

test("a page that slept asks first; an answer keeps the connection, none ends it within seconds", async () => {
  for (const isAlive of [true, false]) {
    const { host, client, heard } = await online({}, { heartbeat_seconds: 25 });
    await host.sleep(600);
    const [probe] = host.socket.frames();
    assert.equal(probe.requestId, internals.PROBE_ID);
    assert.ok(client.isConnected);
    await host.advance(1);
    if (isAlive) answer(host, probe);
    await host.advance(5);
    assert.equal(client.isConnected, isAlive);
    assert.deepEqual(heard.map((event) => event.reason), isAlive ? [] : ["SILENT"]);
  }
});

test("a dead connection is seen also by a page whose every timer is a minute late", async () => {
  const { host, heard } = await online({}, { heartbeat_seconds: 25 });
  for (let minute = 0; minute < 4; minute += 1) await host.sleep(60);
  assert.deepEqual(heard.map((event) => event.reason), ["SILENT"]);
});

test("a request whose answer arrived while the page slept is answered and not timed out", async () => {
  const { host, client } = await online();
  const promise = client.request(2, 1);
  await settle();
  const [frame] = host.socket.frames();
  await host.sleep(60);
  answer(host, frame, 1, text("early"));
  await host.advance(1);
  assert.equal((await promise).text(), "early");
});

test("when the page is seen again or the network is back the connection is checked at once", async () => {
  const wake = {
    online: (host) => host.window.fire("online"),
    pageshow: (host) => host.window.fire("pageshow", { persisted: false }),
    resume: (host) => host.document.fire("resume"),
    visibilitychange: (host) => host.document.fire("visibilitychange"),
  };
  for (const [name, fire] of Object.entries(wake)) {
    const { host, client, heard } = await online();
    await host.advance(5);
    fire(host);
    fire(host);
    await settle();
    const frames = host.socket.frames();
    assert.deepEqual(frames.map((frame) => frame.requestId), [internals.PROBE_ID], name);
    // Old bytes are a respite and no answer.
    host.socket.receive(groupPush(1));
    await host.advance(4.9);
    assert.ok(client.isConnected, name);
    await host.advance(0.2);
    assert.equal(heard.at(-1).reason, "SILENT", name);
    await client.close();
  }
  const { host } = await online();
  host.document.visibilityState = "hidden";
  host.document.fire("visibilitychange");
  await settle();
  assert.deepEqual(host.socket.frames(), []);
});

test("a page that wakes up does not sit out the delay of its next try, but does not hammer either", async () => {
  const { host, client } = await online({ retryBaseSeconds: 30 });
  host.socket.end();
  await host.advance(2);
  assert.equal(host.sockets.length, 1);
  host.window.fire("online");
  await settle();
  assert.equal(host.sockets.length, 2);
  host.socket.end();
  await settle();
  for (let number = 0; number < 10; number += 1) host.window.fire("online");
  await host.advance(0.5);
  assert.equal(host.sockets.length, 2);
  await client.close();
});

test("a page that is put aside lets its connection go, and resumes the session when it is back", async () => {
  const { host, client, heard } = await online();
  host.socket.receive(groupPush(1));
  heard.length = 0;
  host.window.fire("pagehide", { persisted: true });
  await settle();
  assert.equal(host.socket.closedWith.code, 1000);
  assert.deepEqual(host.socket.frames(), []);
  assert.deepEqual([heard[0].reason, heard[0].willRetry], ["SUSPENDED", true]);
  await host.advance(100);
  assert.equal(host.sockets.length, 1);
  host.window.fire("pageshow", { persisted: true });
  const hello = await host.signIn({ resumed: true, recovered: true });
  assert.deepEqual([hello.resume, hello.received], [SID, 1]);
  assert.ok(client.isConnected);
  host.window.fire("pagehide", { persisted: false });
  assert.ok(client.isConnected);
  await client.close();
});

test("what a connection that was let go of still brings is not heard: the resume brings it again", async () => {
  const { host, heard } = await online();
  const old = host.socket;
  old.close = () => {};
  host.window.fire("pagehide", { persisted: true });
  old.receive(groupPush(1));
  host.window.fire("pageshow", { persisted: true });
  assert.equal((await host.signIn({ resumed: true, recovered: true })).received, 0);
  host.socket.receive(groupPush(1));
  old.receive(groupPush(1));
  old.end();
  await settle();
  assert.deepEqual(heard.map((event) => event.name), ["disconnected", "connected", "groupMessage"]);
});

test("a page that is back at once is seen before it is shown, and connects all the same", async () => {
  const { host, client } = await online();
  host.window.fire("pagehide", { persisted: true });
  await host.advance(0.1);
  host.document.fire("visibilitychange");
  host.window.fire("pageshow", { persisted: true });
  await host.signIn({ resumed: true, recovered: true });
  assert.ok(client.isConnected);
  assert.equal(host.sockets.length, 2);
  await client.close();
});

test("a page that is put aside while it connects goes on connecting when it is back", async () => {
  const host = new FakeHost();
  const client = new Client(URL_OF_NODE, { user: "ann" }, host);
  const connected = client.connect();
  await settle();
  host.window.fire("pagehide", { persisted: true });
  await host.advance(60);
  host.window.fire("pageshow", { persisted: true });
  await host.signIn();
  await connected;
  assert.equal(host.sockets.length, 2);
  await client.close();
});
