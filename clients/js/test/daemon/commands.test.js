/** Everything that a client can ask, of a real node. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, Message } from "../../meshrelay.js";
import { HTTP, makeToken, nextEvents, signIn, TOKEN_HTTP, TOKEN_WS } from "./place.js";

test("groups: make, join, hear each other, leave", async (context) => {
  const { client: ann, user: annId } = await signIn(context, "ann");
  const { client: bob, user: bobId } = await signIn(context, "bob", {}, HTTP);
  const groupId = await ann.createGroup({ ttlSeconds: 60 });
  assert.deepEqual(await ann.listGroups(), [groupId]);
  const joined = nextEvents(ann, "groupJoined");
  await bob.joinGroup(groupId, "hello");
  const [join] = await joined;
  assert.deepEqual([join.groupId, join.userId, join.message.text()], [groupId, bobId, "hello"]);
  const heard = nextEvents(bob, "groupMessage", 300);
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
  await ann.broadcast(groupId, bytes);
  for (let number = 0; number < 298; number += 1) ann.broadcastNowait(groupId, String(number), { reliable: number % 2 === 0 });
  await ann.broadcast(groupId, "ende \u{1f600}", { reliable: false });
  const events = await heard;
  assert.ok(events[0].message instanceof Message);
  assert.deepEqual([events[0].userId, [...events[0].message]], [annId, [...bytes]]);
  assert.deepEqual(events.slice(1, -1).map((event) => Number(event.message.text())), Array.from({ length: 298 }, (_, number) => number));
  assert.equal(events.at(-1).message.text(), "ende \u{1f600}");
  const left = nextEvents(ann, "groupLeft");
  await bob.leaveGroup(groupId, "bye");
  assert.equal((await left)[0].message.text(), "bye");
  await assert.rejects(bob.leaveGroup(groupId), { name: "NotMember", code: 22 });
  await ann.leaveGroup(groupId);
  await assert.rejects(ann.joinGroup(groupId), { name: "GroupNotFound", code: 21 });
  await assert.rejects(ann.createGroup({ ttlSeconds: 10 }), { name: "InvalidTTL", code: 10 });
  await assert.rejects(ann.createGroup({ join: false }), { name: "EmptyAndNotJoined", code: 11 });
});

test("a random group is made by the first and joined by the second", async (context) => {
  const { client: ann } = await signIn(context, "ann");
  const { client: bob } = await signIn(context, "bob");
  const made = await ann.joinRandomGroup({ ttlSeconds: 60 });
  const joined = await bob.joinRandomGroup({ ttlSeconds: 60, message: "hi" });
  assert.deepEqual([made.created, joined], [true, { created: false, groupId: made.groupId }]);
  await Promise.all([ann.leaveGroup(made.groupId), bob.leaveGroup(made.groupId)]);
});

test("rooms: bounded, with an owner that passes on", async (context) => {
  const { client: ann, user: annId } = await signIn(context, "ann");
  const { client: bob, user: bobId } = await signIn(context, "bob");
  const { client: eve } = await signIn(context, "eve");
  const roomId = await ann.createRoom({ maxMembers: 2, ttlSeconds: 60 });
  const joined = nextEvents(ann, "roomJoined");
  assert.equal(await bob.joinRoom(roomId), annId);
  assert.equal((await joined)[0].userId, bobId);
  await assert.rejects(eve.joinRoom(roomId), { name: "RoomFull" });
  await assert.rejects(eve.broadcastRoom(roomId, "x"), { name: "NotInRoom" });
  assert.deepEqual(await bob.roomMembers(roomId), { owner: annId, members: [annId, bobId] });
  const heard = nextEvents(ann, "roomMessage");
  await bob.broadcastRoom(roomId, "your turn");
  assert.deepEqual([(await heard)[0].roomId, (await heard)[0].message.text()], [roomId, "your turn"]);
  const owner = nextEvents(bob, "roomOwner");
  const left = nextEvents(bob, "roomLeft");
  await ann.leaveRoom(roomId, "bye");
  assert.equal((await left)[0].message.text(), "bye");
  assert.equal((await owner)[0].owner, bobId);
  const { client: ghost } = await signIn(context, "ghost");
  await ghost.joinRoom(roomId);
  const lost = nextEvents(bob, "roomLost");
  await ghost.close();
  assert.equal((await lost)[0].roomId, roomId);
});

test("direct messages arrive in the order of the calls, each with its result", async (context) => {
  const { client: ann, user: annId } = await signIn(context, "ann");
  const { client: bob, user: bobId } = await signIn(context, "bob");
  const heard = nextEvents(bob, "directMessage", 500);
  await Promise.all(Array.from({ length: 500 }, (_, number) => ann.sendDirect(bobId, String(number))));
  const events = await heard;
  assert.equal(events[0].userId, annId);
  assert.deepEqual(events.map((event) => Number(event.message.text())), Array.from({ length: 500 }, (_, number) => number));
  const cleared = nextEvents(bob, "directCleared");
  await ann.clearDirect(bobId, "that is all");
  assert.equal((await cleared)[0].message.text(), "that is all");
  await assert.rejects(ann.sendDirect("nobody-at-all", "x"), { name: "UserNotFound", code: 30 });
  await assert.rejects(ann.sendDirect(bobId, ""), { name: "MessageIsEmpty", code: 31 });
});

test("thousands of requests in one turn all get their own answers; unknown ones are refused", async (context) => {
  const { client } = await signIn(context, "ann");
  const answers = await Promise.all(Array.from({ length: 4000 }, (_, number) => client.request(0, 2, String(number))));
  assert.deepEqual(answers.map((answer) => Number(answer.text())), Array.from({ length: 4000 }, (_, number) => number));
  const seconds = await client.ping();
  assert.ok(seconds > 0 && seconds < 5);
  await assert.rejects(client.request(200, 1, "x"), { name: "UnknownCommand", code: 2 });
  await assert.rejects(client.request(0, 2, new Uint8Array(65)), { name: "MalformedPayload", code: 1 });
});

test("the largest message passes; one byte more is refused here, and the connection lives", async (context) => {
  const { client: ann, user } = await signIn(context, "ann");
  const { client: bob } = await signIn(context, "bob");
  const groupId = await ann.createGroup({ ttlSeconds: 60 });
  await bob.joinGroup(groupId);
  const heard = nextEvents(bob, "groupMessage");
  const largest = new Uint8Array(65536 - 53 - user.length).map((_, index) => index % 251);
  await ann.broadcast(groupId, largest);
  assert.deepEqual([...(await heard)[0].message], [...largest]);
  await assert.rejects(ann.broadcast(groupId, new Uint8Array(65536 - 51)), { name: "MessageTooLarge" });
  await ann.ping();
});

test("a newer sign-in of the same user takes over, and the older client stays away", async (context) => {
  const { client: older, user } = await signIn(context, "ann");
  const gone = nextEvents(older, "disconnected");
  const newer = new Client(HTTP, { user });
  context.after(() => newer.close());
  await newer.connect();
  const [event] = await gone;
  assert.deepEqual([event.code, event.reason, event.willRetry], [4500, "REPLACED", false]);
  assert.equal(older.isConnected, false);
});

test("with tokens: a good one signs in by either way, a bad one is refused and not tried again", async (context) => {
  for (const url of [TOKEN_WS, TOKEN_HTTP]) {
    let calls = 0;
    const token = async () => makeToken({ sub: "alice", exp: Math.floor(Date.now() / 1000) + 60 + (calls += 1) });
    const client = new Client(url, { user: "alice", token });
    context.after(() => client.close());
    assert.equal((await client.connect()).userId, "alice");
    assert.equal(calls, 1);
    await client.close();
    for (const bad of [makeToken({ sub: "bob" }), makeToken({ sub: "alice", exp: 1 }), "nonsense", null]) {
      const refused = new Client(url, { user: "alice", token: bad, retryFirst: true });
      await assert.rejects(refused.connect(), { name: "SignInRefused" });
    }
  }
  const named = new Client(TOKEN_WS, { token: makeToken({ sub: "carol" }) });
  context.after(() => named.close());
  assert.equal((await named.connect()).userId, "carol");
});

test("where no node is, the first connect says so at once", async () => {
  const started = performance.now();
  const client = new Client("ws://127.0.0.1:9/", { user: "ann", connectTimeoutSeconds: 60 });
  await assert.rejects(client.connect(), { name: "ConnectFailed" });
  const other = new Client("http://127.0.0.1:9/", { user: "ann", connectTimeoutSeconds: 60 });
  await assert.rejects(other.connect(), { name: "ConnectFailed" });
  assert.ok(performance.now() - started < 20000);
});
