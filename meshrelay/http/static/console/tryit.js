/** The page "Try it": a chat in a group, by the client that users' own pages have. */

import { Client } from "/meshrelay.js";
import { byId, element, say } from "./dom.js";

/** Lines that are kept on the page. */
const MAX_LINES = 500;

const groupOfAddress = () => {
  const [page, group = ""] = location.hash.replace(/^#/, "").split("/");
  try {
    return page === "try" ? decodeURIComponent(group) : "";
  } catch {
    return "";
  }
};

const log = (user, text, kind = "") => {
  const list = byId("try-log");
  list.append(element("li", { class: kind }, ...(user ? [element("b", {}, user)] : []), text));
  while (list.children.length > MAX_LINES) list.firstElementChild.remove();
  list.scrollTop = list.scrollHeight;
};

const textOf = (message) => {
  try {
    return message.text();
  } catch {
    return `(${message.length} bytes)`;
  }
};

/** @param {() => Promise<string>} findUrl the node's WebSocket */
export const startTryIt = (findUrl) => {
  let client = null;
  let group = "";

  const state = (text) => say(byId("try-state"), text);
  const entered = (isIn) => {
    byId("try-sign-in").hidden = isIn;
    for (const id of ["try-log", "try-say", "try-invite"]) byId(id).hidden = !isIn;
  };

  const enter = async () => {
    const user = byId("try-user").value;
    const token = byId("try-token").value || null;
    client = new Client(await findUrl(), { user, token });
    client.on("groupMessage", ({ groupId, userId, message }) => groupId === group && log(userId, textOf(message)));
    client.on("groupJoined", ({ userId }) => log("", `${userId} has joined`, "quiet"));
    client.on("groupLeft", ({ userId }) => log("", `${userId} has left`, "quiet"));
    client.on("groupLost", ({ userId }) => log("", `${userId} was lost`, "quiet"));
    client.on("disconnected", ({ reason, willRetry }) => {
      if (reason !== "CLOSED") state(willRetry ? "The connection broke; coming back." : `Signed out: ${reason}.`);
    });
    client.on("connected", async ({ resumed }) => {
      if (!group || resumed) return group && state("In the group.");
      // Another session than before the break: it is in no group.
      await client.joinGroup(group, "back");
      return state("In the group again.");
    });
    await client.connect();
    const wanted = byId("try-group").value.trim();
    if (wanted) await client.joinGroup(wanted, "joined");
    group = wanted || (await client.createGroup({ join: true }));
    byId("try-group").value = group;
    byId("try-link").href = `/#try/${encodeURIComponent(group)}`;
    entered(true);
    state("In the group.");
    byId("try-text").focus();
  };

  const leave = async (text) => {
    const left = client;
    client = null;
    group = "";
    entered(false);
    state(text);
    await left?.close();
  };

  byId("try-user").value = `guest-${Math.floor(Math.random() * 9000) + 1000}`;
  byId("try-group").value = groupOfAddress();
  addEventListener("hashchange", () => {
    if (!group && groupOfAddress()) byId("try-group").value = groupOfAddress();
  });

  byId("try-sign-in").addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("try-enter").disabled = true;
    state("Signing in.");
    try {
      await enter();
    } catch (error) {
      await leave(`That did not work: ${error.message}`);
    } finally {
      byId("try-enter").disabled = false;
      // A button that is off for a moment loses the focus.
      if (client === null) byId("try-enter").focus();
    }
  });

  byId("try-say").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = byId("try-text").value;
    try {
      await client.broadcast(group, text);
      byId("try-text").value = "";
      log(byId("try-user").value, text);
    } catch (error) {
      state(`Not sent: ${error.message}`);
    }
  });

  byId("try-leave").addEventListener("click", async () => {
    await leave("You have left.");
    byId("try-user").focus();
  });
};
