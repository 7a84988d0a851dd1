/** The page "Overview": figures, plots, map. */

import { byId, figures } from "./dom.js";
import { byteRate, duration, milliseconds, number, rate } from "./format.js";
import { lookOf, makeMap } from "./map.js";
import { makePlot } from "./plots.js";
import { makeTable } from "./tables.js";

const linkText = ({ links }) => {
  const up = links.filter((link) => link.state === "up").length;
  return links.length === up ? `${up}` : `${up} of ${links.length}`;
};

export const makeOverview = () => {
  const plots = [
    makePlot(byId("plots"), "Messages", [["messages_received", "in"], ["messages_sent", "out"]], rate),
    makePlot(byId("plots"), "Bytes", [["bytes_received", "in"], ["bytes_sent", "out"]], byteRate),
    makePlot(byId("plots"), "Sessions", [["sessions", "now"]], number),
    makePlot(byId("plots"), "Reactor lag", [["lag_ms", "late by"]], milliseconds),
  ];
  const map = makeMap(byId("map"));
  const nodes = makeTable(
    byId("nodes"),
    "Nodes",
    [
      { name: "Node", of: (node) => node.id },
      { name: "State", kind: "short", of: (node) => node.state, look: (node) => lookOf(node.state) },
      { name: "Users", kind: "number", of: (node) => number(node.users) },
      { name: "Groups", kind: "number", of: (node) => number(node.groups) },
      { name: "Load", kind: "number", of: (node) => (node.load === null ? "–" : `${Math.round(node.load * 100)} %`) },
      { name: "Links up", kind: "number", of: linkText },
      { name: "Up for", kind: "number", of: (node) => duration(node.uptime_seconds) },
      { name: "Version", kind: "short", of: (node) => node.version ?? "–" },
    ],
    "No node has answered yet.",
  );

  return (state, samples) => {
    const { cluster, connections, users, groups, rooms } = state;
    const clusterUsers = cluster?.rows.reduce((sum, node) => sum + (node.users ?? 0), 0);
    figures(byId("figures"), [
      ["Sessions here", number(users.count)],
      ["Sessions, all nodes", number(clusterUsers)],
      ["Nodes", number(cluster?.count)],
      ["Groups here", number(groups.count)],
      ["Rooms here", number(rooms.count)],
      ["TCP", number(connections.tcp)],
      ["WebSocket", number(connections.websocket)],
      ["UDP", number(connections.udp)],
      ["Consoles watching", number(state.consoles)],
      ["Directory", cluster ? `${cluster.directory.kind}, ${cluster.directory.state}` : "–"],
    ]);
    for (const plot of plots) plot(samples);
    if (cluster) {
      map(cluster.rows, state.node);
      nodes(cluster);
    }
  };
};
