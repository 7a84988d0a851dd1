/** Groups that the client follows across breaks, and who is in them; the test is the node. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, GroupNotFound, internals, PayloadReader, PayloadWriter } from "../meshrelay.js";
import { coded, FakeHost, joinBytes, push, settle, text } from "./support/host.js";
import { makeRandom } from "./support/random.js";

const { encodeFrame } = internals;

const GID = "g".repeat(52);
const OTHER = "h".repeat(52);

/** A client that is signed in, its world, and what its program hears of groups. */
class Story {
  told = [];

  static async begin(options = {}) {
    const story = new Story();
    story.host = new FakeHost();
    const quick = { retryBaseSeconds: 0.1, retryCapSeconds: 0.1 };
    story.client = new Client("ws://node.example/", { user: "ann", ...quick, ...options }, story.host);
    story.client.on("groupMessage", ({ offset, message }) => story.told.push(offset || message.text()));
    story.client.on("groupRecovered", ({ recovered, error }) => story.told.push(error?.name ?? recovered));
    story.client.on("pushReceived", ({ ver, cmd }) => story.told.push(`${ver}.${cmd}`));
    story.client.on("groupPresence", ({ count, there, away, gone }) => {
      story.told.push([count, there.join(), away.join(), gone.join()].join("|"));
    });
    const connected = story.client.connect();
    await story.host.signIn();
    await connected;
    return story;
  }

  /** The same, and it follows a group that was at epoch 7, offset 3. */
  static async following(options = {}) {
    const story = await Story.begin(options);
    const joined = story.client.joinGroup(GID, "hello", { recover: true });
    assert.deepEqual(await story.asked(), [[118, GID, 0n, 0n, "hello"]]);
    story.receive(story.recovered(false, 7, 3));
    await joined;
    assert.deepEqual(story.told, []);
    return story;
  }

  /** What the client has asked since the last call. */
  async asked() {
    await settle();
    this.frames = this.host.socket.frames().filter((frame) => frame.ver === 1);
    return this.frames.map(({ cmd, payload }) => {
      const reader = new PayloadReader(payload);
      const place = [cmd, reader.gid()];
      if (cmd === 118) return [...place, reader.u64(), reader.u64(), reader.rest().text()];
      if (cmd === 140) return [...place, reader.u8(), reader.u16(), reader.rest().text()];
      return place;
    });
  }

  /** The answer to the first question that is not answered yet. */
  answer(payload = new Uint8Array(0), status = 1) {
    const frame = this.frames.shift();
    return encodeFrame(frame.ver, status, frame.cmd, frame.requestId, payload);
  }

  refusal(code, status = 4) {
    return this.answer(coded(code, "no"), status);
  }

  recovered(isWhole, epoch, offset) {
    return this.answer(new PayloadWriter().u8(isWhole ? 1 : 0).u64(BigInt(epoch)).u64(BigInt(offset)).finish());
  }

  present(count, ...users) {
    const writer = new PayloadWriter().u32(count);
    for (const user of users) writer.u8(1).userId(user);
    return this.answer(writer.finish());
  }

  receive(...frames) {
    this.host.socket.receive(...frames);
  }

  /** The connection breaks and another one is there. */
  async comeBack(changes = {}) {
    this.host.socket.end();
    await this.host.advance(0.2);
    await this.host.signIn(changes);
  }

  heard() {
    return this.told.splice(0);
  }
}

const logged = (offset, { epoch = 7, sender = "bob", ver = 1, cmd = 113, groupId = GID } = {}) => {
  const writer = new PayloadWriter().gid(groupId).u64(BigInt(epoch)).u64(BigInt(offset)).str8(sender);
  return push(1, 118, writer.u8(ver).u16(cmd).bytes(String(offset)).finish());
};

const plain = (words) => push(1, 113, joinBytes(text(GID), [3], text("bob"), text(words)));

const changed = (count, ...changes) => {
  const writer = new PayloadWriter().gid(GID).u32(count);
  for (const [change, user] of changes) writer.u8(change).userId(user);
  return push(1, 140, writer.finish());
};

test("messages come once, in order, with their offsets, and one's own only move the position", async () => {
  const story = await Story.following();
  story.receive(logged(4), logged(4), logged(2), logged(5, { sender: "ann" }), logged(6), logged(7, { ver: 2, cmd: 9 }));
  assert.deepEqual(story.heard(), [4, 6, "2.9"]);
  assert.deepEqual(story.client.groupPosition(GID), { epoch: "7", offset: 7 });
  assert.equal(story.client.groupPosition(OTHER), null);
  assert.deepEqual(await story.asked(), []);
});

test("after a new session the client asks from where it was, and tells how it went before what was missed", async () => {
  const story = await Story.following();
  story.receive(logged(4));
  await story.comeBack();
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 4n, ""]]);
  // All in one message: the answer counts before what stands behind it.
  story.receive(story.recovered(true, 7, 6), logged(5), logged(6), logged(7));
  assert.deepEqual(story.heard(), [4, true, 5, 6, 7]);
});

test("what is gone is told as missing, and the group is followed from where it is", async () => {
  const story = await Story.following();
  await story.comeBack();
  await story.asked();
  story.receive(story.recovered(false, 7, 50), logged(50), logged(51));
  assert.deepEqual(story.heard(), [false, 51]);
  story.receive(logged(1, { epoch: 9 }), logged(2, { epoch: 9 }));
  assert.deepEqual(story.heard(), [false, 1, 2]);
});

test("a resume that lost nothing asks nothing; after one that did no message is told twice", async () => {
  const story = await Story.following();
  await story.comeBack({ resumed: true, recovered: true });
  assert.deepEqual(await story.asked(), []);
  await story.comeBack({ resumed: true });
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  story.receive(plain("4"), story.refusal(4));
  // Between two questions it is about to come with its offset all the same.
  story.receive(plain("5"));
  await story.host.advance(1.1);
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  story.receive(story.recovered(true, 7, 5), logged(4), logged(5));
  assert.deepEqual(story.heard(), [true, 4, 5]);
});

test("a push that was lost on its way is asked for once, with all behind it", async () => {
  const story = await Story.following();
  story.receive(logged(6), logged(7));
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  story.receive(story.refusal(6, 5), logged(8));
  assert.deepEqual(await story.asked(), []);
  await story.host.advance(1.1);
  assert.equal((await story.asked()).length, 1);
  story.receive(story.recovered(true, 7, 8), ...[4, 5, 6, 7, 8].map((offset) => logged(offset)));
  assert.deepEqual(story.heard(), [true, 4, 5, 6, 7, 8]);
});

test("a question that broke with its connection is asked again, also when the session lost nothing", async () => {
  const story = await Story.following();
  await story.comeBack();
  assert.equal((await story.asked()).length, 1);
  await story.comeBack({ resumed: true, recovered: true });
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  story.receive(story.recovered(true, 7, 3));
  assert.deepEqual(story.heard(), [true]);
});

test("that something was missed is told also when the answer that said so was lost", async () => {
  const story = await Story.following();
  await story.comeBack();
  assert.equal((await story.asked()).length, 1);
  // The node has answered, and what it pushed behind is replayed; the answer is not.
  await story.comeBack({ resumed: true, recovered: true });
  assert.equal((await story.asked()).length, 1);
  story.receive(logged(51, { epoch: 9 }), story.recovered(true, 9, 51));
  assert.deepEqual(story.heard(), [51, false]);
});

test("that something was missed is told also when the node was not asked in time", async () => {
  const story = await Story.following();
  story.receive(logged(5));
  assert.equal((await story.asked()).length, 1);
  story.receive(story.refusal(4), logged(0, { epoch: 0 }), logged(51, { epoch: 9 }));
  await story.host.advance(1.1);
  assert.deepEqual(await story.asked(), [[118, GID, 9n, 51n, ""]]);
  story.receive(story.recovered(true, 9, 52), logged(52, { epoch: 9 }));
  assert.deepEqual(story.heard(), ["0", 51, false, 52]);
});

test("what came without its offset while the node is asked is not told again: the program is warned instead", async () => {
  const story = await Story.following();
  await story.comeBack();
  await story.asked();
  story.receive(logged(0, { epoch: 0 }), story.recovered(true, 7, 5), ...[4, 5, 6].map((offset) => logged(offset)));
  assert.deepEqual(story.heard(), ["0", false, 6]);
  // It does not spoil the next answer.
  await story.comeBack();
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 6n, ""]]);
  story.receive(story.recovered(true, 7, 7), logged(7));
  assert.deepEqual(story.heard(), [true, 7]);
});

test("a message that is not kept is told, and the position is not known until the next", async () => {
  const story = await Story.following();
  story.receive(logged(0, { epoch: 0 }));
  assert.deepEqual(story.heard(), ["0"]);
  assert.equal(story.client.groupPosition(GID), null);
  story.receive(logged(4, { epoch: 9 }));
  assert.deepEqual(story.heard(), [4]);
  assert.deepEqual(story.client.groupPosition(GID), { epoch: "9", offset: 4 });
});

test("a group without history is joined again after a break, and nothing of it is passed over", async () => {
  const story = await Story.begin();
  const joined = story.client.joinGroup(GID, "", { recover: true });
  await story.asked();
  story.receive(story.recovered(false, 0, 0));
  await joined;
  await story.comeBack();
  assert.deepEqual(await story.asked(), [[118, GID, 0n, 0n, ""]]);
  story.receive(plain("x"), story.recovered(false, 0, 0), logged(0, { epoch: 0 }));
  assert.deepEqual(story.heard(), ["x", false, "0"]);
});

test("a group that is gone is told with its error, and not asked for again", async () => {
  const story = await Story.following();
  await story.comeBack();
  await story.asked();
  story.receive(story.refusal(21));
  assert.deepEqual(story.heard(), ["GroupNotFound"]);
  await story.comeBack();
  assert.deepEqual(await story.asked(), []);
});

test("a node that cannot say is asked again every second, until the group is left or the client is closed", async () => {
  const story = await Story.following();
  await story.comeBack();
  await story.asked();
  for (const [code, status] of [[6, 5], [4, 4], [9, 5], [12, 5]]) {
    story.receive(story.refusal(code, status));
    await story.host.advance(0.9);
    assert.deepEqual(await story.asked(), []);
    await story.host.advance(0.2);
    assert.equal((await story.asked()).length, 1);
  }
  story.receive(story.refusal(6, 5));
  const left = story.client.leaveGroup(GID);
  await story.asked();
  story.receive(story.answer());
  await left;
  await story.host.advance(10);
  assert.deepEqual(await story.asked(), []);
  await story.client.close();
  assert.deepEqual([story.heard(), story.host.timers], [[], []]);
});

test("a first join that is refused is not tried again; nonsense never leaves", async () => {
  const story = await Story.begin();
  const joined = story.client.joinGroup(GID, "", { recover: { epoch: "5", offset: 6 } });
  assert.deepEqual(await story.asked(), [[118, GID, 5n, 6n, ""]]);
  story.receive(story.refusal(21));
  await assert.rejects(joined, GroupNotFound);
  assert.equal(story.client.groupPosition(GID), null);
  await assert.rejects(story.client.joinGroup("short", "", { recover: true }), { name: "MalformedPayload" });
  for (const recover of [7, {}, { epoch: "x", offset: 0 }, { epoch: 5n, offset: 0 }]) {
    await assert.rejects(story.client.joinGroup(GID, "", { recover }), TypeError);
  }
  for (const recover of [{ epoch: "5", offset: -1 }, { epoch: "9".repeat(20), offset: 1 }]) {
    await assert.rejects(story.client.joinGroup(GID, "", { recover }), RangeError);
  }
  await story.comeBack();
  assert.deepEqual([await story.asked(), story.told], [[], []]);
});

test("of two first joins at once one is refused: the group is followed if the other one is not, and only then", async () => {
  for (const code of [7, 21]) {
    for (const isSecondAnswered of [true, false]) {
      const story = await Story.begin();
      const joins = [0, 1].map(() => story.client.joinGroup(GID, "", { recover: true }));
      assert.equal((await story.asked()).length, 2);
      story.receive(story.refusal(code));
      await assert.rejects(joins[0]);
      story.receive(isSecondAnswered ? story.recovered(false, 9n, 4) : story.refusal(code));
      if (isSecondAnswered) await joins[1];
      else await assert.rejects(joins[1]);
      assert.deepEqual(story.client.groupPosition(GID), isSecondAnswered ? { epoch: "9", offset: 4 } : null);
      await story.comeBack();
      await story.host.advance(10);
      assert.equal((await story.asked()).length, isSecondAnswered ? 1 : 0);
    }
  }
});

test("a position that was kept as JSON is gone on from, and the program is told how that went", async () => {
  const story = await Story.begin();
  const kept = JSON.parse(JSON.stringify({ epoch: String(2n ** 63n + 1n), offset: 6 }));
  const joined = story.client.joinGroup(GID, "", { recover: kept });
  assert.deepEqual(await story.asked(), [[118, GID, 2n ** 63n + 1n, 6n, ""]]);
  story.receive(story.recovered(true, 2n ** 63n + 1n, 6));
  await joined;
  assert.deepEqual([story.heard(), story.client.groupPosition(GID)], [[true], kept]);
});

test("a program that joins again after each break by itself loses no position, also when that fails", async () => {
  const story = await Story.following();
  const joins = [];
  story.client.on("connected", () => joins.push(story.client.joinGroup(GID, "", { recover: true }).catch((error) => error.name)));
  await story.comeBack();
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  await story.comeBack();
  assert.equal(await joins[0], "ConnectionLost");
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  story.receive(story.recovered(true, 7, 4), logged(4));
  assert.equal(await joins[1], undefined);
  assert.deepEqual(story.heard(), [true, 4]);
});

test("who leaves and joins in one breath begins anew and is followed", async () => {
  const story = await Story.following();
  const left = story.client.leaveGroup(GID);
  const joined = story.client.joinGroup(GID, "", { recover: true });
  assert.deepEqual(await story.asked(), [[112, GID], [118, GID, 0n, 0n, ""]]);
  story.receive(story.answer(), story.recovered(false, 7, 9), logged(9), logged(10));
  await Promise.all([left, joined]);
  assert.deepEqual(story.heard(), [10]);
  assert.deepEqual(story.client.groupPosition(GID), { epoch: "7", offset: 10 });
  const refused = story.client.leaveGroup(GID);
  await story.asked();
  story.receive(story.refusal(22));
  await assert.rejects(refused, { name: "NotMember" });
  assert.equal(story.client.groupPosition(GID), null);
});

test("a group that is being left is not joined again, but is if the client stays after all", async () => {
  const story = await Story.following();
  await story.comeBack({ resumed: true });
  await story.asked();
  story.receive(story.refusal(4));
  const left = story.client.leaveGroup(GID);
  await story.host.advance(1.1);
  assert.deepEqual(await story.asked(), [[112, GID]]);
  story.receive(story.refusal(8));
  await assert.rejects(left, { name: "Refused" });
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
});

test("a message that is too large ends its own call, and the group is followed on", async () => {
  const story = await Story.following();
  const tooLarge = "x".repeat(10_000_000);
  await assert.rejects(story.client.joinGroup(GID, tooLarge, { recover: true }), { name: "MessageTooLarge" });
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  story.receive(story.recovered(true, 7, 4), logged(4));
  assert.deepEqual(story.heard(), [true, 4]);
});

test("a client that cannot ask for all its groups at once asks for the rest a second later", async () => {
  const story = await Story.begin({ maxPendingRequests: 1 });
  for (const groupId of [GID, OTHER]) {
    const joined = story.client.joinGroup(groupId, "", { recover: true });
    await story.asked();
    story.receive(story.recovered(false, 7, 3));
    await joined;
  }
  await story.comeBack();
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  story.receive(story.recovered(true, 7, 3));
  await story.host.advance(1.1);
  assert.deepEqual(await story.asked(), [[118, OTHER, 7n, 3n, ""]]);
});

test("many groups are asked for a few at a time, and a node that has enough of it is left in peace for a second", async () => {
  const story = await Story.begin();
  const groups = Array.from({ length: 40 }, (_, number) => String(number).padStart(52, "g"));
  for (const groupId of groups) {
    const joined = story.client.joinGroup(groupId, "", { recover: true });
    await story.asked();
    story.receive(story.recovered(false, 7, 3));
    await joined;
  }
  await story.comeBack();
  const first = await story.asked();
  assert.deepEqual(first.map(([, groupId]) => groupId), groups.slice(0, 16));
  story.receive(...first.slice(0, 10).map(() => story.recovered(true, 7, 3)));
  const waiting = story.frames;
  assert.deepEqual((await story.asked()).map(([, groupId]) => groupId), groups.slice(16, 26));
  story.frames.unshift(...waiting);
  story.receive(...first.map(() => story.refusal(4)));
  assert.deepEqual(await story.asked(), []);
  await story.host.advance(1.1);
  const again = (await story.asked()).map(([, groupId]) => groupId);
  assert.deepEqual(again, groups.slice(10, 26));
  while (story.frames.length > 0) {
    story.receive(story.recovered(true, 7, 3));
    const left = story.frames;
    again.push(...(await story.asked()).map(([, groupId]) => groupId));
    story.frames.unshift(...left);
  }
  assert.deepEqual(again, groups.slice(10));
  assert.equal(story.heard().length, 40);
});

test("a closed client follows nothing", async () => {
  const story = await Story.following();
  await story.client.close();
  assert.equal(story.client.groupPosition(GID), null);
  story.client.connect();
  await story.host.signIn();
  assert.deepEqual(await story.asked(), []);
});

test("whatever breaks and whatever is lost on the way, a client that is not warned hears all, once and in order", async () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = makeRandom(seed);
    const story = await Story.following();
    const kept = 30;
    let head = 3;
    let isMember = true;
    for (let turn = 0; turn < 60; turn += 1) {
      head += 1;
      if (isMember && random() < 0.8) story.receive(logged(head));
      if (random() < 0.15) {
        await story.comeBack();
        isMember = false;
      }
      await story.asked();
      while (story.frames.length > 0) {
        const [frame] = story.frames;
        const after = Number(new DataView(frame.payload.buffer, frame.payload.byteOffset).getBigUint64(60));
        if (random() < 0.2) {
          story.receive(story.refusal(6, 5));
        } else if (random() < 0.1) {
          break;
        } else {
          isMember = true;
          const isWhole = after >= head - kept;
          const missed = isWhole ? Array.from({ length: head - after }, (_, index) => logged(after + 1 + index)) : [];
          story.receive(story.recovered(isWhole, 7, head), ...missed);
        }
      }
      if (random() < 0.3) await story.host.advance(1.1);
    }
    const messages = story.told.filter((each) => typeof each === "number");
    assert.deepEqual(messages, [...new Set(messages)].sort((one, other) => one - other), `seed ${seed}`);
    if (!story.told.includes(false)) {
      assert.deepEqual(messages, messages.map((_, index) => 4 + index), `seed ${seed}`);
    }
    await story.client.close();
    assert.deepEqual(story.host.timers, []);
  }
});

test("history gives messages with their offsets and bytes of their own", async () => {
  const story = await Story.begin();
  const asked = story.client.history(GID, { after: 3 });
  await story.asked();
  const entry = new PayloadWriter().str8("bob").u8(1).u16(113).bytes("hi").finish();
  story.receive(story.answer(new PayloadWriter().u64(7n).u64(4n).u64(4n).u32(entry.length).bytes(entry).finish()));
  const { epoch, head, messages } = await asked;
  assert.deepEqual([epoch, head, messages.length], ["7", 4, 1]);
  const { offset, sender, ver, cmd, message } = messages[0];
  assert.deepEqual([offset, sender, ver, cmd, message.text(), message.buffer.byteLength], [4, "bob", 1, 113, "hi", 2]);
  await assert.rejects(story.client.history(GID, { after: -1 }), RangeError);
});

test("presence lists members; watched, changes are told, also after a break, until the program has enough", async () => {
  const story = await Story.following();
  const listed = story.client.presence(GID, { watch: true });
  assert.deepEqual(await story.asked(), [[140, GID, 1, 1000, ""]]);
  story.receive(story.present(2, "ann", "bob"));
  const isThere = (userId) => ({ userId, isAway: false });
  assert.deepEqual(await listed, { count: 2, members: [isThere("ann"), isThere("bob")] });
  await story.host.advance(0.1);
  story.receive(changed(5, [1, "bob"], [3, "cid"], [2, "dan"], [1, "eve"], [9, "new"]));
  assert.deepEqual(story.heard(), ["5|bob,eve|dan|cid"]);
  await story.comeBack({ resumed: true, recovered: true });
  assert.deepEqual(await story.asked(), []);
  await story.comeBack();
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  // First a member again, and a node that cannot make it one now does not end the watch.
  story.receive(story.refusal(6, 5));
  await story.host.advance(1.1);
  await story.asked();
  story.receive(story.recovered(true, 7, 3));
  assert.deepEqual(await story.asked(), [[140, GID, 1, 0, ""]]);
  story.receive(story.refusal(4));
  await story.host.advance(1.1);
  assert.deepEqual(await story.asked(), [[140, GID, 1, 0, ""]]);
  story.receive(story.present(9));
  assert.deepEqual(story.heard(), [true, "9|||"]);
  // Enough, whether the node hears of it or not.
  story.host.socket.end();
  await assert.rejects(story.client.presence(GID, { watch: false }), { name: "NotConnected" });
  await story.host.advance(0.2);
  await story.host.signIn();
  assert.deepEqual(await story.asked(), [[118, GID, 7n, 3n, ""]]);
  story.receive(story.recovered(true, 7, 3));
  assert.deepEqual(await story.asked(), []);
  const ended = story.client.presence(GID, { watch: false });
  assert.deepEqual(await story.asked(), [[140, GID, 2, 1000, ""]]);
  story.receive(story.present(0));
  await ended;
});

test("what changes behind a list is told when the program has the list, however many awaits are between", async () => {
  const story = await Story.begin();
  const there = new Set();
  story.client.on("groupPresence", (event) => event.there.forEach((user) => there.add(user)));
  const list = async () => story.client.presence(GID, { watch: true });
  const begin = async () => {
    const { members } = await list();
    there.clear();
    for (const { userId } of members) there.add(userId);
  };
  const begun = begin();
  await story.asked();
  story.receive(story.present(1, "ann"), changed(2, [1, "bob"]));
  story.receive(changed(3, [1, "cid"]));
  await begun;
  await story.host.advance(0);
  assert.deepEqual([...there], ["ann", "bob", "cid"]);
  // With a bound: more than that is told at once, in order.
  const again = story.client.presence(GID);
  await story.asked();
  story.heard();
  story.receive(story.present(1, "ann"));
  for (let number = 1; number <= 1001; number += 1) story.receive(changed(number, [1, "dan"]));
  assert.deepEqual(story.heard().map((each) => parseInt(each, 10)), Array.from({ length: 1001 }, (_, index) => index + 1));
  await again;
  // A break tells them before it is told.
  const last = story.client.presence(GID);
  await story.asked();
  story.receive(story.present(1, "ann"), changed(2, [1, "eve"]));
  story.host.socket.end();
  assert.deepEqual(story.heard(), ["2|eve||"]);
  await last;
  await story.client.close();
  assert.deepEqual(story.host.timers, []);
});

test("a watch of a group that the client is not in after a break is over", async () => {
  const story = await Story.begin();
  const listed = story.client.presence(GID, { watch: true });
  await story.asked();
  story.receive(story.present(1, "ann"));
  await listed;
  await story.comeBack();
  assert.deepEqual(await story.asked(), [[140, GID, 1, 0, ""]]);
  story.receive(story.refusal(22));
  await story.comeBack();
  assert.deepEqual([await story.asked(), story.heard()], [[], []]);
  const refused = story.client.presence(GID, { watch: true });
  await story.asked();
  story.receive(story.refusal(22));
  await assert.rejects(refused, { name: "NotMember" });
  await assert.rejects(story.client.presence("short"), { name: "MalformedPayload" });
});

test("an answer that cannot be read ends the following, and not the connection", async () => {
  const story = await Story.following();
  await story.comeBack();
  await story.asked();
  story.receive(story.answer(text("?")));
  assert.deepEqual(story.heard(), ["RemoteProtocolError"]);
  const listed = story.client.presence(GID);
  await story.asked();
  story.receive(story.answer(text("?")));
  await assert.rejects(listed, { name: "RemoteProtocolError" });
  assert.ok(story.client.isConnected);
});
