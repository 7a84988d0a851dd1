// Any number of peers of the npm package peer-relay in one process, told what to do by lines of JSON.
//
// Standard input: {"id": 1, "do": "send", "peer": "alice", ...}. Standard output: {"answer": 1, "ok": true, ...} or
// {"answer": 1, "ok": false, "error": text} for each, and {"event": ..., ...} for what happens by itself:
//   linked   peer, peer_id         the package's event "peer"
//   message  peer, from, data      its event "message"
//   packet   peer, from, port, data (base64)      the event "message" of a Socket
//   listening, closed   peer       events of a Socket
//   crashed  error                 an exception that nobody caught; without this harness the process had died of it
// The process ends when its input ends. IDs are hex.
//
// --deflate=off  no compression of WebSocket messages; the package itself negotiates it wherever it can
"use strict";
const path = require("path");

require("dns").setDefaultResultOrder("ipv4first");

const hasDeflate = !process.argv.includes("--deflate=off");
const counts = { frames_sent: 0, bytes_sent: 0 };

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

process.on("uncaughtException", (error) => say({ event: "crashed", error: String((error && error.stack) || error) }));

// The package asks for "ws" and gets this: listening on 127.0.0.1 instead of everywhere, counted, deflate as wished.
function instrument() {
  const place = require.resolve("ws", { paths: [path.dirname(require.resolve("peer-relay"))] });
  const WebSocket = require(place);
  const counted = (socket) => {
    const send = socket.send;
    socket.send = function (data, ...rest) {
      counts.frames_sent += 1;
      counts.bytes_sent += data.length;
      return send.call(this, data, ...rest);
    };
    return socket;
  };
  function Dialled(url) {
    return counted(new WebSocket(url, [], { perMessageDeflate: hasDeflate }));
  }
  Dialled.Server = function (options) {
    const server = new WebSocket.Server({ host: "127.0.0.1", perMessageDeflate: hasDeflate, ...options });
    server.on("connection", counted);
    return server;
  };
  require.cache[place].exports = Dialled;
}

instrument();
const PeerRelay = require("peer-relay");

const peers = new Map(); // name -> { client, socket or null }
let load = null; // numbers and latencies of messages that are counted instead of told

function hex(id) {
  return id.toString("hex");
}

function id(text) {
  return Buffer.from(text, "hex");
}

function peer(name) {
  const found = peers.get(name);
  if (found === undefined) throw new Error("no peer " + name);
  return found;
}

function links(name) {
  return peer(name).client.peers.toArray().map((link) => hex(link.id));
}

function microseconds() {
  return Math.round(Number(process.hrtime.bigint()) / 1000);
}

function received(name, data, from) {
  if (load === null) return say({ event: "message", peer: name, from: hex(from), data });
  const [number, sent] = data;
  if (load.numbers.has(number)) return void (load.duplicates += 1);
  load.numbers.add(number);
  // Each bucket is 2 % wider than the one before.
  const bucket = Math.floor(Math.log(Math.max(1, microseconds() - sent)) / Math.log(1.02));
  load.buckets[bucket] = (load.buckets[bucket] || 0) + 1;
}

function listening(client) {
  const server = client.wsConnector._wss;
  return new Promise((resolve, reject) => {
    if (server === null) return resolve(null);
    if (server._server.address() !== null) return resolve(server._server.address().port);
    server.once("error", reject);
    server._server.once("listening", () => resolve(server._server.address().port));
  });
}

async function make(options, kind) {
  const wrtc = options.wrtc ? require("@roamhq/wrtc") : undefined;
  const given = { bootstrap: options.bootstrap || [], wrtc };
  if (options.port !== null && options.port !== undefined) given.port = options.port;
  const made = new kind(given);
  const socket = kind === PeerRelay.Socket ? made : null;
  const client = socket === null ? made : socket.peer;
  const name = options.peer;
  peers.set(name, { client, socket });
  client.on("peer", (other) => say({ event: "linked", peer: name, peer_id: hex(other) }));
  client.on("error", (error) => say({ event: "failed", peer: name, error: String(error) }));
  if (socket === null) client.on("message", (data, from) => received(name, data, from));
  else {
    socket.on("message", (data, from) =>
      say({ event: "packet", peer: name, from: from.address, port: from.port, data: data.toString("base64") }));
    socket.on("listening", () => say({ event: "listening", peer: name }));
    socket.on("close", () => say({ event: "closed", peer: name }));
    socket.on("error", (error) => say({ event: "failed", peer: name, error: String(error) }));
  }
  const port = await listening(client);
  return { peer_id: hex(client.id), port };
}

// Ends as soon as the links are as wanted; the package says nothing when one closes.
function until(options) {
  const wanted = options.linked || [];
  const unwanted = options.unlinked || [];
  const deadline = Date.now() + options.seconds * 1000;
  return new Promise((resolve, reject) => {
    (function look() {
      const found = links(options.peer);
      const isThere = wanted.every((one) => found.includes(one)) && !unwanted.some((one) => found.includes(one));
      if (isThere && found.length >= (options.least || 0)) return resolve({ links: found });
      if (Date.now() > deadline) return reject(new Error("links: " + JSON.stringify(found)));
      setTimeout(look, 5);
    })();
  });
}

// Sends number `first` and so on, over and over to the pairs [name, id], at an even pace that does not wait; from the
// second `at` of the monotonic clock on, which all processes of a machine share.
function sendMany(options) {
  const { pairs, per_second: perSecond, count, first } = options;
  const start = options.at === undefined ? microseconds() : options.at * 1e6;
  const targets = pairs.map(([name, other]) => [peer(name).client, id(other)]);
  let sent = 0;
  return new Promise((resolve) => {
    (function go() {
      const due = Math.min(count, Math.floor(((microseconds() - start) * perSecond) / 1e6) + 1);
      for (; sent < due; sent++) {
        const [client, other] = targets[sent % targets.length];
        client.send(other, [first + sent, microseconds()]);
      }
      if (sent >= count) return resolve({ sent, seconds: (microseconds() - start) / 1e6 });
      setTimeout(go, 1);
    })();
  });
}

// Socket.close calls destroy() without a callback, and that throws where there is no port.
function destroy(options) {
  const { client, socket } = peer(options.peer);
  peers.delete(options.peer);
  return new Promise((resolve) => {
    if (socket === null) return client.destroy(() => resolve());
    client.destroy = () => Object.getPrototypeOf(client).destroy.call(client, () => resolve());
    socket.close();
  });
}

const commands = {
  make: (options) => make(options, PeerRelay),
  make_socket: (options) => make(options, PeerRelay.Socket),
  connect: (options) => void peer(options.peer).client.connect(id(options.peer_id)),
  disconnect: (options) => void peer(options.peer).client.disconnect(id(options.peer_id)),
  send: (options) => void peer(options.peer).client.send(id(options.to), options.data),
  links: (options) => ({ links: links(options.peer) }),
  until,
  destroy,
  bind: (options) => void peer(options.peer).socket.bind(options.port),
  address: (options) => peer(options.peer).socket.address(),
  send_packet: (options) => new Promise((resolve) => {
    const data = Buffer.from(options.data, "base64");
    const { offset = 0, length = data.length, port = 0 } = options;
    peer(options.peer).socket.send(data, offset, length, port, options.to, () => resolve());
  }),
  counts: () => ({ ...counts, rss: process.memoryUsage().rss }),
  count: () => void (load = { numbers: new Set(), duplicates: 0, buckets: {} }),
  counted: () => ({ received: load.numbers.size, duplicates: load.duplicates, buckets: load.buckets }),
  send_many: sendMany,
};

async function obey(line) {
  const { id: number, do: name, ...options } = JSON.parse(line);
  try {
    if (!Object.hasOwn(commands, name)) throw new Error("no command " + name);
    say({ answer: number, ok: true, ...(await commands[name](options)) });
  } catch (error) {
    say({ answer: number, ok: false, error: String(error) });
  }
}

const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", obey);
lines.on("close", () => process.exit(0));
say({ event: "ready" });
