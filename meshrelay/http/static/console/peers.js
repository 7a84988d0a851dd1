/** The page "Peers and links": P2P pairs that are relayed and why, the NetBird relay, the overlay. */

import { byId, figures } from "./dom.js";
import { bytes, duration, number, shortId } from "./format.js";
import { makeTable } from "./tables.js";

const WHY = {
  no_udp: "one of the two has no UDP address that others may be told",
  no_hole: "both have UDP addresses, and no packet has come through",
};

const why = ({ state, why: reason }) => (state === "unknown" ? "it has not said yet" : (WHY[reason] ?? reason) || "–");

export const makePeers = () => {
  const pairs = makeTable(
    byId("pairs"),
    "Pairs that are not direct, and why",
    [
      { name: "User", of: (pair) => pair.user },
      { name: "Peer", of: (pair) => pair.peer },
      { name: "State", kind: "short", of: (pair) => pair.state, look: (pair) => (pair.state === "lost" ? "bad" : "warn") },
      { name: "Why", kind: "wide", of: why },
      { name: "Room", kind: "code", of: (pair) => shortId(pair.room), full: (pair) => pair.room },
    ],
    "Every pair that this node knows of is direct, or there are none.",
  );
  const overlay = makeTable(
    byId("overlay"),
    "Peers of the overlay that this node is linked with",
    [
      { name: "Peer", kind: "code", of: (peer) => peer.id },
      { name: "By", kind: "short", of: (peer) => peer.transport },
      { name: "Address", of: (peer) => peer.address },
      { name: "Proved", kind: "short", of: (peer) => (peer.is_proved ? "yes" : "no") },
      { name: "For", kind: "number", of: (peer) => duration(peer.since_seconds) },
      { name: "In", kind: "number", of: (peer) => bytes(peer.bytes_received) },
      { name: "Out", kind: "number", of: (peer) => bytes(peer.bytes_sent) },
    ],
    "No links yet.",
  );

  return (state) => {
    const counts = state.pair_counts;
    figures(byId("pair-figures"), [
      ["Direct", number(counts.peer_link_pairs_direct)],
      ["Relayed", number(counts.peer_link_pairs_relayed)],
      ["Lost", number(counts.peer_link_pairs_lost)],
      ["Packets relayed", number(counts.peer_link_packets_forwarded)],
    ]);
    pairs(state.pairs);
    byId("relay-off").hidden = state.relay !== null;
    byId("relay").hidden = state.relay === null;
    if (state.relay !== null) {
      const { peers, active, messages, bytes: sent, dropped, listens } = state.relay;
      figures(byId("relay"), [
        ["Listens by", listens.join(", ")],
        ["Peers", number(Object.values(peers).reduce((sum, count) => sum + count, 0))],
        ["Active in 30 s", number(active)],
        ["Messages passed on", number(messages)],
        ["Bytes passed on", bytes(sent)],
        ["Messages nobody got", number(dropped)],
      ]);
    }
    byId("overlay-off").hidden = state.overlay !== null;
    byId("overlay").hidden = state.overlay === null;
    if (state.overlay !== null) overlay(state.overlay.peers);
  };
};
