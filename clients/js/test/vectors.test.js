/** The same bytes as the node: its own golden vectors, every cut of them, and garbage. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { internals, MalformedPayload, PayloadReader, PayloadWriter, RemoteProtocolError } from "../meshrelay.js";
import { garbage, makeRandom } from "./support/random.js";
import { fromHex, loadVectors, toHex } from "./support/vectors.js";

const vectors = loadVectors("commands");

/** Check a codec of whole payloads. `read` gives plain values, `write` (if there is one) takes them. */
const checkCodec = (cases, read, write) => {
  const plain = (value) => JSON.parse(JSON.stringify(value, (_, each) => (each instanceof Uint8Array ? toHex(each) : each)));
  const readOrRefuse = (bytes) => {
    try {
      return { value: plain(read(bytes)) };
    } catch (error) {
      assert.ok(error instanceof MalformedPayload, `${toHex(bytes)} threw ${error}`);
      return null;
    }
  };
  assert.ok(cases.length > 0);
  for (const { hex, value } of cases) {
    assert.deepEqual(plain(read(fromHex(hex))), value, hex);
    if (write !== undefined) assert.equal(toHex(write(value)), hex);
    for (let size = 0; size < hex.length / 2; size += 1) {
      assert.notDeepEqual(readOrRefuse(fromHex(hex).slice(0, size)), { value }, `${hex} cut to ${size} bytes`);
    }
  }
  const good = cases.map(({ hex }) => fromHex(hex));
  for (const bytes of garbage(makeRandom(20), good, 200)) {
    const decoded = readOrRefuse(bytes);
    if (decoded !== null && write !== undefined) {
      assert.deepEqual(readOrRefuse(write(decoded.value)), decoded, toHex(bytes));
    }
  }
};

test("frames are written and read as the protocol draws them", () => {
  for (const each of loadVectors("frame").frames) {
    const bytes = internals.encodeFrame(each.ver, each.status, each.cmd, each.request_id, fromHex(each.payload));
    assert.equal(toHex(bytes), each.hex, each.name);
    const [frame, ...others] = internals.readFrames(fromHex(each.hex));
    assert.deepEqual(others, []);
    const { ver, status, cmd, requestId, payload } = frame;
    assert.deepEqual(
      { ver, status, cmd, request_id: requestId, payload: toHex(payload) },
      { ver: each.ver, status: each.status, cmd: each.cmd, request_id: each.request_id, payload: each.payload },
    );
  }
});

test("a message that ends inside a frame gives the frames before it, and then the error", () => {
  const whole = loadVectors("frame").frames.map((each) => each.hex);
  const stream = fromHex(whole.join(""));
  const ends = whole.map((_, index) => whole.slice(0, index + 1).join("").length / 2);
  for (let size = 1; size <= stream.length; size += 1) {
    const frames = [];
    const read = () => {
      for (const frame of internals.readFrames(stream.slice(0, size))) frames.push(frame);
    };
    if (ends.includes(size)) read();
    else assert.throws(read, (error) => error instanceof RemoteProtocolError && error.closeCode === 4502);
    assert.equal(frames.length, ends.filter((end) => end <= size).length, `cut to ${size}`);
  }
});

test("a frame over the limit is refused before its payload is there, a frame at the limit is not", () => {
  const frame = internals.encodeFrame(2, 255, 1, 0, new Uint8Array(100));
  assert.equal([...internals.readFrames(frame, 100)].length, 1);
  assert.throws(() => [...internals.readFrames(frame.slice(0, 12), 99)], { closeCode: 4503 });
});

test("GROUP_CREATE is written as in the vectors", () => {
  for (const { hex, value } of vectors.new_group) {
    const [allowEmpty, join, ttlSeconds, intervalMs] = value;
    assert.equal(toHex(internals.encodeNewGroup({ allowEmpty, join, ttlSeconds, intervalMs })), hex);
  }
});

test("GROUP_JOIN_RANDOM is written as in the vectors", () => {
  for (const { hex, value } of vectors.join_random) {
    const [ttlSeconds, allowEmpty, intervalMs, message] = value;
    const settings = { ttlSeconds, allowEmpty, intervalMs, message: fromHex(message) };
    assert.equal(toHex(internals.encodeJoinRandom(settings)), hex);
  }
});

test("a group ID and a message are written as in the vectors", () => {
  for (const { hex, value } of vectors.gid_message) {
    assert.equal(toHex(internals.encodeGidMessage(value[0], fromHex(value[1]))), hex);
  }
});

test("pushed messages are read as in the vectors", () => {
  checkCodec(vectors.pushed_message, internals.decodePushedMessage, ([gid, user, message]) =>
    new PayloadWriter().gid(gid).userId(user).bytes(fromHex(message)).finish(),
  );
});

test("the answer to a random join is read as in the vectors", () => {
  checkCodec(vectors.created, (payload) => {
    const { created, groupId } = internals.decodeCreated(payload);
    return [created, groupId];
  });
});

test("a list of groups is read as in the vectors", () => {
  checkCodec(vectors.gid_list, internals.decodeGidList);
});

test("refusals and GOODBYE are read as in the vectors", () => {
  const read = (payload) => Object.values(internals.decodeError(payload));
  checkCodec(vectors.error, read);
  checkCodec(vectors.goodbye, read);
});

test("direct messages are written as in the vectors, and read where the application may have sent them", () => {
  for (const { hex, value } of vectors.direct) {
    assert.equal(toHex(internals.encodeDirect(value[0], fromHex(value[1]))), hex);
  }
  checkCodec(vectors.pushed_direct, internals.decodePushedDirect);
});

test("room payloads are what the protocol says, byte by byte", () => {
  const room = { maxMembers: 8, allowEmpty: false, join: true, ttlSeconds: 60, intervalMs: 200 };
  assert.equal(toHex(internals.encodeNewRoom(room)), "0008020000003c00c8");
  const largest = { maxMembers: 65535, allowEmpty: true, join: false, ttlSeconds: 2 ** 32 - 1, intervalMs: 0 };
  assert.equal(toHex(internals.encodeNewRoom(largest)), "ffff01ffffffff0000");
  checkCodec([{ hex: "03616e6e", value: "ann" }, { hex: "02c3a4", value: "ä" }], internals.decodeOwner);
  const list = [{ hex: "03616e6e03616e6e03626f62", value: { owner: "ann", members: ["ann", "bob"] } }];
  checkCodec(list, internals.decodeRoomList);
  checkCodec([{ hex: `${"72".repeat(52)}03626f62`, value: ["r".repeat(52), "bob"] }], internals.decodePushedOwner);
  checkCodec([{ hex: "72".repeat(52), value: "r".repeat(52) }], internals.decodeGid);
});

test("history, recovery and presence are written and read as in the vectors", () => {
  const history = loadVectors("history");
  for (const { hex, value } of history.ask_recover) {
    const [groupId, epoch, offset, message] = value;
    assert.equal(toHex(internals.encodeAskRecover(groupId, BigInt(epoch), offset, fromHex(message))), hex);
  }
  for (const { hex, value } of history.ask_history) {
    const [groupId, after, limit] = value;
    assert.equal(toHex(internals.encodeAskHistory(groupId, { after, limit })), hex);
  }
  for (const { hex, value } of history.ask_presence) {
    const [groupId, flags, limit, after] = value;
    const watch = [undefined, true, false][flags];
    assert.equal(toHex(internals.encodeAskPresence(groupId, { after, limit, watch })), hex);
  }
  checkCodec(history.recovered, (payload) => {
    const { recovered, epoch, offset } = internals.decodeRecovered(payload);
    return [recovered, String(epoch), offset];
  });
  checkCodec(history.logged_push, (payload) => {
    const { groupId, epoch, offset, sender, ver, cmd, message } = internals.decodePushedEntry(payload);
    return [groupId, String(epoch), offset, sender, ver, cmd, message];
  });
  checkCodec(history.history_page, (payload) => {
    const { epoch, head, messages } = internals.decodeHistory(payload);
    return [epoch, head, messages.map((each) => [each.offset, each.sender, each.ver, each.cmd, each.message])];
  });
  checkCodec(history.presence, (payload) => {
    const { count, members } = internals.decodePresence(payload);
    return [count, members.map(({ userId, isAway }) => [userId, isAway])];
  });
  for (const { hex, value } of history.presence_push) {
    const [groupId, count, changes] = value;
    const users = [1, 2, 3].map((wanted) => changes.filter(([each]) => each === wanted).map(([, user]) => user));
    assert.deepEqual(internals.decodePushedPresence(fromHex(hex)), [groupId, count, ...users]);
  }
});

test("offsets that no number holds, and what a program must not ask, are refused", () => {
  const huge = toHex(new PayloadWriter().u8(1).u64(1n).u64(2n ** 53n).finish());
  assert.throws(() => internals.decodeRecovered(fromHex(huge)), MalformedPayload);
  for (const wrong of [-1, 1.5, NaN, 2 ** 53, "1"]) {
    assert.throws(() => internals.encodeAskHistory("g".repeat(52), { after: wrong }), RangeError);
    assert.throws(() => internals.encodeAskRecover("g".repeat(52), 1n, wrong), RangeError);
  }
  assert.throws(() => internals.encodeAskHistory("g".repeat(52), { limit: 65536 }), RangeError);
  assert.throws(() => internals.encodeAskPresence("g".repeat(52), { limit: -1 }), RangeError);
  assert.throws(() => internals.encodeAskPresence("g".repeat(52), { after: 7 }), TypeError);
  assert.throws(() => internals.encodeAskRecover("short", 0n, 0), MalformedPayload);
});

test("HELLO is written as in the vectors, letter by letter", () => {
  const { hello } = loadVectors("hello");
  const { user, token, client, acks, resume, received } = hello[1].value;
  const bytes = internals.encodeHello({ user, token, client, acks, resume, received });
  assert.equal(new TextDecoder().decode(bytes), hello[1].json);
});

test("the answer to HELLO is read as in the vectors, and what is none is refused", () => {
  const utf8 = new TextEncoder();
  for (const { json, value } of loadVectors("hello").welcome) {
    assert.deepEqual(internals.decodeWelcome(utf8.encode(json)), value);
    const larger = { ...value, of_a_newer_node: [1] };
    assert.deepEqual(internals.decodeWelcome(utf8.encode(JSON.stringify(larger))), larger);
    for (const member of Object.keys(value)) {
      for (const wrong of [undefined, null, [], {}, "x", 1.5, true]) {
        const isFine = typeof wrong === typeof value[member] && !(wrong === 1.5 && member !== "heartbeat_seconds");
        if (isFine) continue;
        const payload = utf8.encode(JSON.stringify({ ...value, [member]: wrong }));
        assert.throws(() => internals.decodeWelcome(payload), MalformedPayload, `${member} ${String(wrong)}`);
      }
    }
  }
  for (const wrong of ["", "{", "[]", "null", "{}", '"x"', "\ufeff{}"]) {
    assert.throws(() => internals.decodeWelcome(utf8.encode(wrong)), MalformedPayload, wrong);
  }
  assert.throws(() => internals.decodeWelcome(Uint8Array.of(0xff)), MalformedPayload);
});

test("whole numbers of 64 bits are kept to the last bit", () => {
  const numbers = [0n, 1n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];
  for (const number of numbers) {
    assert.equal(new PayloadReader(new PayloadWriter().u64(number).finish()).u64(), number);
    const signed = BigInt.asIntN(64, number);
    assert.equal(new PayloadReader(new PayloadWriter().i64(signed).finish()).i64(), signed);
  }
  assert.equal(toHex(new PayloadWriter().u64(2n ** 53n + 1n).finish()), "0020000000000001");
  for (const wrong of [-1n, 2n ** 64n, 1, 2 ** 53]) assert.throws(() => new PayloadWriter().u64(wrong), RangeError);
  for (const wrong of [2n ** 63n, -(2n ** 63n) - 1n, 1]) assert.throws(() => new PayloadWriter().i64(wrong), RangeError);
});

test("a payload may be of any length, wherever its numbers stand", () => {
  for (let size = 0; size < 300; size += 1) {
    const writer = new PayloadWriter().bytes(new Uint8Array(size)).u8(1).u16(2).u32(3).u64(4n).i64(-5n);
    const reader = new PayloadReader(writer.gid("g".repeat(52)).u8(6).finish());
    assert.equal(reader.bytes(size).length, size);
    const numbers = [reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.i64(), reader.gid(), reader.u8()];
    assert.deepEqual(numbers, [1, 2, 3, 4n, -5n, "g".repeat(52), 6]);
    reader.end();
  }
});

test("numbers that do not fit their field are the program's mistake, and not cut to size", () => {
  const wrong = [-1, 1.5, NaN, Infinity, "1", null, 2 ** 32];
  for (const value of wrong) {
    for (const write of ["u8", "u16", "u32"]) assert.throws(() => new PayloadWriter()[write](value), RangeError);
    assert.throws(() => internals.encodeNewGroup({ ttlSeconds: value }), RangeError);
  }
});

test("text is UTF-8 and nothing else, both ways", () => {
  assert.throws(() => internals.encodeDirect("a\ud800b"), MalformedPayload);
  assert.throws(() => internals.encodeGidMessage("g".repeat(52), "\udc00"), MalformedPayload);
  assert.throws(() => internals.decodeOwner(Uint8Array.of(2, 0xc3, 0x28)), MalformedPayload);
  assert.equal(internals.decodeOwner(Uint8Array.of(4, 0xef, 0xbb, 0xbf, 0x61)), "\ufeffa");
  for (const wrong of ["", "u".repeat(129), "ä".repeat(65)]) {
    assert.throws(() => internals.encodeDirect(wrong), MalformedPayload);
  }
  for (const wrong of ["g".repeat(51), "g".repeat(53), `${"g".repeat(51)}ä`, 7, `${"g".repeat(51)}\n\n`]) {
    assert.throws(() => internals.encodeGidMessage(wrong), MalformedPayload);
  }
});
