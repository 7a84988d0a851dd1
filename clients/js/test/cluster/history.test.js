/**
 * History and presence with two real nodes of a cluster. MESHRELAY_TEST_CLUSTER_WS says where they are, one ws address
 * behind the other. Both keep 40 messages of a group (history_size) and sessions for a second (resume_seconds).
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../../meshrelay.js";
import { CuttingProxy } from "../daemon/proxy.js";
import { makeRandom } from "../support/random.js";

const NODES = (process.env.MESHRELAY_TEST_CLUSTER_WS ?? "").split(" ");
if (NODES.length !== 2) throw new Error("MESHRELAY_TEST_CLUSTER_WS is not set: see test/cluster/history.test.js");

const KEPT = 40;
const SEEDS = 20;
const BREAKS = 4;

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

const until = async (isSo, what) => {
  const end = performance.now() + 30000;
  while (!isSo()) {
    if (performance.now() > end) assert.fail(`did not happen within 30 s: ${what}`);
    await pause(0.005);
  }
};

/** A client that is signed in, and closed at the end of the test; by way of a proxy. */
const signIn = async (context, user, node) => {
  const proxy = new CuttingProxy(NODES[node]);
  const quick = { retryBaseSeconds: 0.02, retryCapSeconds: 0.05 };
  const client = new Client(await proxy.listen(), { user: `${user}-${process.pid}`, ...quick });
  context.after(async () => {
    await client.close();
    await proxy.close();
  });
  await client.connect();
  return { client, proxy, user: `${user}-${process.pid}` };
};

/** How the breaks of all stories ended. */
const verdicts = { resumed: 0, true: 0, false: 0 };

for (let seed = 1; seed <= SEEDS; seed += 1) {
  test(`breaks, moves and more than is kept, story ${seed}: what is told as whole is whole, to the message`, async (context) => {
    const random = makeRandom(seed);
    const choose = (count) => Math.floor(random() * count);
    const { client: bob } = await signIn(context, `bob-${seed}`, choose(2));
    const { client: ann, proxy } = await signIn(context, `ann-${seed}`, choose(2));
    const groupId = await bob.createGroup({ ttlSeconds: 60 });
    await ann.joinGroup(groupId, "", { recover: true });
    // All in the order in which the program hears it.
    const heard = [];
    ann.on("groupMessage", ({ offset, message }) => heard.push([offset, message.text()]));
    ann.on("groupRecovered", ({ recovered, error }) => heard.push(error ?? recovered));
    let returned = null;
    ann.on("connected", (event) => (returned = event));
    // Nowhere to come back to before it is said what was missed.
    ann.on("disconnected", () => (proxy.target = null));

    const said = [];
    const say = (client) => {
      const words = `${said.length + 1}`;
      said.push({ words, isOwn: client === ann });
      return client.broadcast(groupId, words);
    };
    /** What ann is to hear of the offsets behind `from`, up to `to`. */
    const between = (from, to) =>
      said.slice(from, to).flatMap(({ words, isOwn }, index) => (isOwn ? [] : [[from + index + 1, words]]));

    let told = 0;
    for (let number = 0; number < BREAKS; number += 1) {
      if (random() < 0.5) {
        await say(ann);
        // Taken is not yet counted: what bob says at another node might come before it.
        await until(() => ann.groupPosition(groupId)?.offset === said.length, "her own words");
      }
      returned = null;
      proxy.cutAfter(choose(600));
      while (proxy.target !== null) await say(bob);
      const { offset } = ann.groupPosition(groupId);
      assert.deepEqual(heard, between(told, offset));
      heard.length = 0;
      const isOver = random() < 0.3;
      const ended = isOver ? pause(1.2) : null;
      for (let count = choose(2 * KEPT); count > 0; count -= 1) await say(bob);
      await ended;
      while ((await bob.history(groupId, { limit: 0 })).head < said.length) await pause(0.01);
      proxy.target = NODES[choose(2)];
      await until(() => returned !== null, "the return");
      const isSame = returned.resumed && returned.recovered;
      const verdict = () => heard.filter((each) => !Array.isArray(each));
      const missed = between(offset, said.length);
      await until(() => verdict().length >= (isSame ? 0 : 1) && ann.groupPosition(groupId).offset === said.length, "the rest");
      const [isWhole = isSame, ...more] = verdict();
      assert.deepEqual(more, []);
      verdicts[String(isSame ? "resumed" : isWhole)] += 1;
      const messages = heard.splice(0).filter(Array.isArray);
      // A session that moved brings what waited for it, also of what is not kept any more.
      assert.deepEqual(messages, isWhole ? missed : missed.slice(0, messages.length));
      if (!isWhole) {
        assert.ok(said.length - offset > KEPT);
        const page = await ann.history(groupId, { after: offset });
        const kept = said.slice(-KEPT).map(({ words }, index) => [said.length - KEPT + 1 + index, words]);
        assert.deepEqual(page.messages.map((each) => [each.offset, each.message.text()]), kept);
      }
      told = said.length;
    }
  });
}

test("the stories had breaks of every kind", (context) => {
  context.diagnostic(JSON.stringify(verdicts));
  assert.ok(Object.values(verdicts).every((count) => count >= 5));
});

test("history is read page by page from an offset, by members on any node", async (context) => {
  const { client: ann, user } = await signIn(context, "ann", 0);
  const { client: bob } = await signIn(context, "bob", 1);
  const groupId = await ann.createGroup({ ttlSeconds: 60 });
  for (let number = 1; number <= KEPT + 10; number += 1) await ann.broadcast(groupId, String(number));
  await assert.rejects(bob.history(groupId), { name: /NotMember|GroupNotFound/ });
  await bob.joinGroup(groupId);
  const read = [];
  for (let after = 0; ; ) {
    const { head, messages } = await bob.history(groupId, { after, limit: 15 });
    assert.equal(head, KEPT + 10);
    if (messages.length === 0) break;
    read.push(...messages);
    after = messages.at(-1).offset;
  }
  assert.deepEqual(read.map((each) => each.offset), Array.from({ length: KEPT }, (_, index) => 11 + index));
  assert.deepEqual(read.map((each) => each.message.text()), read.map((each) => String(each.offset)));
  assert.ok(read.every((each) => each.sender === user && each.ver === 1 && each.cmd === 113));
});

test("a program that was stopped goes on from the position it kept", async (context) => {
  const { client: ann } = await signIn(context, "ann", 0);
  const groupId = await ann.createGroup({ ttlSeconds: 60 });
  const { client: first } = await signIn(context, "bob", 1);
  await first.joinGroup(groupId, "", { recover: true });
  await ann.broadcast(groupId, "1");
  await until(() => first.groupPosition(groupId)?.offset === 1, "the first message");
  const kept = JSON.stringify(first.groupPosition(groupId));
  await first.close();
  for (const words of ["2", "3"]) await ann.broadcast(groupId, words);
  const { client: second } = await signIn(context, "bob", 0);
  const heard = [];
  second.on("groupMessage", (event) => heard.push(event.message.text()));
  second.on("groupRecovered", (event) => heard.push(event.recovered));
  await second.joinGroup(groupId, "", { recover: JSON.parse(kept) });
  await until(() => heard.length === 3, "what was missed");
  assert.deepEqual(heard, [true, "2", "3"]);
});

test("who is there is told on both nodes: those who join, leave, lose their connection, move and are lost", async (context) => {
  const { client: ann, proxy, user: annId } = await signIn(context, "ann", 0);
  const { client: bob, user: bobId } = await signIn(context, "bob", 1);
  const { client: cid, proxy: cidProxy, user: cidId } = await signIn(context, "cid", 1);
  const groupId = await ann.createGroup({ ttlSeconds: 60, join: false, allowEmpty: true });
  await ann.joinGroup(groupId, "", { recover: true });
  const there = new Map();
  const list = async (settings) => {
    const { count, members } = await ann.presence(groupId, settings);
    there.clear();
    for (const { userId, isAway } of members) there.set(userId, isAway);
    assert.equal(count, there.size);
  };
  ann.on("groupPresence", (event) => {
    for (const userId of event.there) there.set(userId, false);
    for (const userId of event.away) there.set(userId, true);
    for (const userId of event.gone) there.delete(userId);
    if (event.there.length + event.away.length + event.gone.length === 0) list();
  });
  const isSo = (...users) => () => JSON.stringify([...there].sort()) === JSON.stringify(users.sort());
  const everybody = [[annId, false], [bobId, false], [cidId, false]];

  await list({ watch: true });
  assert.deepEqual([...there], [[annId, false]]);
  await bob.joinGroup(groupId);
  await cid.joinGroup(groupId, "", { recover: true });
  await until(isSo(...everybody), "two joined");
  await bob.leaveGroup(groupId);
  await until(isSo([annId, false], [cidId, false]), "one left");
  cidProxy.target = null;
  cidProxy.cutAfter(0);
  await until(isSo([annId, false], [cidId, true]), "one is away");
  cidProxy.target = NODES[0];
  await until(isSo([annId, false], [cidId, false]), "one is back, on the other node");

  // Ann's session is over, and meanwhile others come and go.
  proxy.target = null;
  proxy.cutAfter(0);
  await until(() => !ann.isConnected, "the break");
  await pause(1.3);
  await bob.joinGroup(groupId);
  await cid.leaveGroup(groupId);
  proxy.target = NODES[1];
  await until(isSo([annId, false], [bobId, false]), "what changed while she was away");
  await cid.joinGroup(groupId);
  await until(isSo(...everybody), "watched again");
  await cid.close();
  await until(isSo([annId, false], [bobId, false]), "one is gone");
  await ann.presence(groupId, { watch: false });
  await bob.leaveGroup(groupId);
  await pause(0.3);
  assert.ok(there.has(bobId));
  await list();
  assert.deepEqual([...there], [[annId, false]]);
});
