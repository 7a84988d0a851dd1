/** The page "Users and groups". */

import { byId } from "./dom.js";
import { byteRate, bytes, duration, milliseconds, number, rate, shortId } from "./format.js";
import { makeTable } from "./tables.js";

export const makePeople = () => {
  const groups = makeTable(
    byId("groups"),
    "Groups on this node, busiest first",
    [
      { name: "Group", kind: "code", of: (group) => shortId(group.id), full: (group) => group.id },
      { name: "Members", kind: "number", of: (group) => number(group.members) },
      { name: "Nodes", kind: "number", of: (group) => number(group.nodes) },
      { name: "Said here", kind: "number", of: (group) => rate(group.messages) },
      { name: "Bytes", kind: "number", of: (group) => byteRate(group.bytes) },
      { name: "Kind", kind: "short", of: (group) => (group.static ? "static" : "made by clients") },
    ],
    "There are no groups.",
  );
  const rooms = makeTable(
    byId("rooms"),
    "Rooms of this node, largest first",
    [
      { name: "Room", kind: "code", of: (room) => shortId(room.id), full: (room) => room.id },
      { name: "Members", kind: "number", of: (room) => `${room.members} of ${room.max_members}` },
      { name: "Owner", of: (room) => room.owner ?? "–" },
    ],
    "There are no rooms.",
  );
  const users = makeTable(
    byId("users"),
    "Users on this node, newest first",
    [
      { name: "User", of: (user) => user.id },
      { name: "Transport", kind: "short", of: (user) => (user.away ? "away" : user.transport), look: (user) => (user.away ? "warn" : "") },
      { name: "Since", kind: "number", of: (user) => duration(user.seconds) },
      { name: "Latency", kind: "number", of: (user) => milliseconds(user.latency_ms) },
      { name: "Waits for it", kind: "number", of: (user) => bytes(user.queued_bytes), look: (user) => (user.queued_bytes > 100000 ? "bad" : "") },
    ],
    "Nobody is signed in.",
  );

  return (state) => {
    groups(state.groups);
    rooms(state.rooms);
    users(state.users);
  };
};
