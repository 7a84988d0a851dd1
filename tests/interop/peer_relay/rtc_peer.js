// One end of a WebRTC link as npm's peer-relay makes it: simple-peer with the binary of @roamhq/wrtc.
//
// node rtc_peer.js '{"initiator": true}'
// Standard input: {"signal": {...}}, {"send": text}, {"send_size": 250000}, {"close": true}; one line each.
// Standard output: {"signal": {...}}, {"event": "open", ...}, {"event": "message", "text": ..., "size": ...},
// {"event": "lost", "why": ...}. The process ends when its input ends.
"use strict";
const readline = require("readline");
const SimplePeer = require("simple-peer");
const wrtc = require("@roamhq/wrtc");

const options = JSON.parse(process.argv[2]);

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

const peer = new SimplePeer({ initiator: options.initiator, wrtc, config: { iceServers: [] } });
peer.on("signal", (signal) => say({ signal }));
peer.on("connect", () => say({ event: "open", label: peer._channel.label, max: peer._pc.sctp && peer._pc.sctp.maxMessageSize }));
peer.on("data", (data) => {
  const text = data.toString();
  say({ event: "message", size: data.length, text: data.length > 1000 ? "" : text });
});
peer.on("close", () => say({ event: "lost", why: "closed" }));
peer.on("error", (error) => say({ event: "error", why: String(error) }));

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const order = JSON.parse(line);
  if (order.signal) peer.signal(order.signal);
  if (order.send) peer.send(order.send);
  if (order.send_size) peer.send("x".repeat(order.send_size));
  if (order.close) peer.destroy();
}).on("close", () => process.exit(0));
