/**
 * The console of a node. Reading order: feed (where the state comes from), overview, people, peers, closes (what is shown
 * of it), tryit (a chat), and below them tables, plots and map.
 */

import { forgetKey, getTicket, hasKey, keepKey } from "./access.js";
import { makeCloses } from "./closes.js";
import { byId, say } from "./dom.js";
import { Feed } from "./feed.js";
import { duration } from "./format.js";
import { makeOverview } from "./overview.js";
import { startPages } from "./pages.js";
import { makePeers } from "./peers.js";
import { makePeople } from "./people.js";
import { startTheme } from "./theme.js";
import { startTryIt } from "./tryit.js";

const views = { overview: makeOverview(), people: makePeople(), peers: makePeers(), closes: makeCloses() };
let latest = null;
let isPaused = false;

const draw = (page) => {
  if (latest === null) return;
  const [state, samples] = latest;
  views[page]?.(state, samples);
  say(byId("node-name"), state.node);
  say(byId("version"), state.version);
  say(byId("since"), `This node is up for ${duration(state.uptime_seconds)}.`);
};

const page = startPages(draw);

const show = (state, samples) => {
  if (isPaused) return;
  latest = [state, samples];
  // A hidden tab keeps its history; nobody looks at its lines.
  if (!document.hidden) draw(page());
};

const notice = (text) => {
  byId("notice").hidden = text === "";
  say(byId("notice"), text);
};

let connection = ["waiting", "connecting"];

const sayConnection = () => {
  const [state, text] = isPaused ? ["waiting", "paused"] : connection;
  byId("connection").dataset.state = state;
  say(byId("connection"), text);
};

const feed = new Feed(
  show,
  (state, text) => {
    connection = [state, text];
    sayConnection();
    if (state === "live") notice("");
  },
  (error) => {
    const isWrong = error.status === 401 && hasKey();
    if (isWrong) forgetKey();
    notice(isWrong ? "That is not the admin key." : error.status === 401 ? "" : error.message);
    byId("key-page").hidden = error.status === 403;
    if (error.status !== 403) byId("key").focus();
  },
);

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(byId("key").value);
  byId("key").value = "";
  byId("key-page").hidden = true;
  byId("main").focus();
  notice("");
  feed.start();
});

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  // The feed goes on adding to its samples.
  if (latest !== null) latest = [latest[0], [...latest[1]]];
  byId("pause").textContent = isPaused ? "Go on" : "Pause";
  sayConnection();
});

document.addEventListener("visibilitychange", () => document.hidden || draw(page()));

startTheme(byId("theme"));
startTryIt(async () => {
  const { url } = await getTicket();
  if (url === null) throw new Error("this node has no WebSockets");
  return url;
});
feed.start();
