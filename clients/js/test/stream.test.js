/** Events for `for await`, and messages. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, Connected, EventStream, GroupMessageReceived, Message, WhenFull } from "../meshrelay.js";
import { coded, FakeHost, joinBytes, push, settle, text } from "./support/host.js";

const GID = "g".repeat(52);
const groupPush = (number) => push(1, 113, joinBytes(text(GID), [3], text("bob"), text(String(number))));

const online = async () => {
  const host = new FakeHost();
  const client = new Client("ws://node.example/", { user: "ann" }, host);
  const connected = client.connect();
  await host.signIn();
  await connected;
  return { host, client };
};

const readAll = async (stream) => {
  const read = [];
  for await (const event of stream) read.push(event.name === "groupMessage" ? event.message.text() : event.name);
  return read;
};

test("a loop reads every event in order, and ends when the client is closed", async () => {
  const { host, client } = await online();
  const reading = readAll(client.events());
  host.socket.receive(groupPush(1), groupPush(2));
  await settle();
  host.socket.receive(groupPush(3));
  await client.close();
  assert.deepEqual(await reading, ["1", "2", "3", "disconnected"]);
});

test("a stream goes on over a break that is mended, and ends with one that is not", async () => {
  const { host, client } = await online();
  const reading = readAll(client.events());
  host.socket.end();
  await host.advance(1);
  await host.signIn({ resumed: true, recovered: true });
  host.socket.receive(push(0, 4, coded(4500, "replaced")));
  assert.deepEqual(await reading, ["disconnected", "connected", "disconnected"]);
});

test("a stream of one kind hears nothing else, by class or by name", async () => {
  const { host, client } = await online();
  const streams = [client.events({ of: "groupMessage" }), client.events({ of: GroupMessageReceived })];
  const others = client.events({ of: Connected });
  host.socket.receive(push(2, 1), groupPush(1), push(2, 1));
  await client.close();
  for (const stream of streams) assert.deepEqual(await readAll(stream), ["1"]);
  assert.deepEqual(await readAll(others), []);
  assert.throws(() => client.events({ of: "nosuch" }), TypeError);
});

test("a stream that is not read keeps what it may, and counts what it had to drop", async () => {
  const cases = [[WhenFull.DROP_OLDEST, 7, 3], [WhenFull.DROP_NEWEST, 7, 3], [WhenFull.END, 1, 3]];
  for (const [whenFull, dropped, size] of cases) {
    const stream = new EventStream(3, whenFull);
    for (let number = 0; number < 10; number += 1) stream.put(number);
    assert.deepEqual([stream.dropped, stream.size], [dropped, size], whenFull);
    stream.end();
    const read = [];
    for await (const number of stream) read.push(number);
    assert.deepEqual(read, whenFull === WhenFull.DROP_OLDEST ? [7, 8, 9] : [0, 1, 2]);
  }
  assert.throws(() => new EventStream(0, WhenFull.END), RangeError);
  assert.throws(() => new EventStream(1, "drop"), TypeError);
});

test("a bound of many events holds while they come and go, and order stays", async () => {
  const stream = new EventStream(1000, WhenFull.DROP_OLDEST);
  const read = [];
  for (let number = 0; number < 20000; number += 1) {
    stream.put(number);
    if (number % 3 !== 0) read.push((await stream.next()).value);
  }
  assert.equal(stream.size, 999);
  assert.ok(stream.dropped > 0);
  assert.ok(read.every((number, index) => index === 0 || number > read[index - 1]));
  assert.equal(read.length + stream.size + stream.dropped, 20000);
});

test("leaving a loop ends its stream: nothing is kept for it any more", async () => {
  const { host, client } = await online();
  const stream = client.events();
  host.socket.receive(groupPush(1), groupPush(2));
  for await (const event of stream) {
    assert.equal(event.message.text(), "1");
    break;
  }
  host.socket.receive(groupPush(3));
  assert.deepEqual([stream.size, (await stream.next()).done], [0, true]);
});

test("several readers of one stream get one event each", async () => {
  const stream = new EventStream(5, WhenFull.END);
  const readers = [stream.next(), stream.next(), stream.next()];
  stream.put("a");
  stream.put("b");
  stream.end();
  assert.deepEqual((await Promise.all(readers)).map(({ value }) => value), ["a", "b", undefined]);
});

test("a message is bytes, text and JSON, and says so when it is not", () => {
  assert.deepEqual(new Message(text('{"a":1}')).json(), { a: 1 });
  assert.equal(new Message(text("ä")).text(), "ä");
  assert.equal(new Message(text("\ufeffx")).text(), "\ufeffx");
  assert.throws(() => new Message([0xff]).text(), TypeError);
  assert.throws(() => new Message(text("{")).json(), SyntaxError);
});
