/** The page of the game lobby. The rules are in the node, see lobby_app.py; this shows what it says. */

import { Client, NODE_URL } from "../node.js";

const VER = 10;
const OPEN_TABLE = 1;
const SET_READY = 2;
const START = 3;
const LOOK = 4;
const LOBBY = 10;
const TABLES = 11;
const TABLE = 12;

/** Lines of talk that are kept on the page. */
const MAX_LINES = 200;

const $ = (selector) => document.querySelector(selector);

let client;
let user = "";
/** Room ID of the table where this user sits; null: at none. */
let seat = null;

/** Make an element. Names come from other people, so they are only ever text. */
const element = (name, ...children) => {
  const made = document.createElement(name);
  made.append(...children);
  return made;
};

/** Do something that the node may refuse, and say why if it does. */
const attempt = async (action) => {
  $("#problem").textContent = "";
  try {
    return await action();
  } catch (error) {
    $("#problem").textContent = error.message;
    return undefined;
  }
};

const ask = async (cmd, question) => client.request(VER, cmd, JSON.stringify(question));

const show = () => {
  $("#door").hidden = client !== undefined;
  $("#lobby").hidden = client === undefined || seat !== null;
  $("#table").hidden = seat === null;
};

const sitDown = (table) => {
  seat = table;
  $("#players").replaceChildren();
  $("#talk").replaceChildren();
  $("#order").textContent = "";
  $("#ready").checked = false;
  $("#ready").disabled = false;
  $("#start").disabled = true;
  show();
};

const getUp = () => {
  seat = null;
  show();
};

const addLine = (speaker, words) => {
  const talk = $("#talk");
  talk.append(element("li", element("b", speaker), words));
  while (talk.children.length > MAX_LINES) talk.firstChild.remove();
};

/** What the application pushes, by its number. */
const news = {
  [LOBBY]: ({ lobby }) => attempt(() => client.joinGroup(lobby)),

  [TABLES]: ({ people, tables }) => {
    $("#people").textContent = people;
    const rows = tables.map(({ id, name, seats, taken, is_started: isStarted }) => {
      const button = element("button", "Sit down");
      button.disabled = isStarted || taken >= seats;
      button.addEventListener("click", () =>
        attempt(async () => {
          await client.joinRoom(id);
          sitDown(id);
        }),
      );
      return element("li", element("b", name), isStarted ? "playing" : `${taken} of ${seats}`, button);
    });
    $("#tables").replaceChildren(...rows);
  },

  [TABLE]: ({ table, name, owner, players, order }) => {
    if (table !== seat) return;
    $("#table-title").textContent = name;
    const rows = players.map((player) => {
      const marks = [player.is_ready ? "ready" : "not ready", player.user === owner ? "owner" : ""];
      return element("li", element("b", player.user), marks.filter(Boolean).join(", "));
    });
    $("#players").replaceChildren(...rows);
    const areAllReady = players.length > 1 && players.every((player) => player.is_ready);
    const hasBegun = order.length > 0;
    $("#start").disabled = owner !== user || !areAllReady || hasBegun;
    $("#ready").disabled = hasBegun;
    $("#order").textContent = hasBegun ? `The game has begun: ${order.join(", then ")}` : "";
  },
};

const listen = () => {
  client.on("pushReceived", ({ ver, cmd, payload }) => {
    if (ver === VER) news[cmd]?.(payload.json());
  });
  client.on("roomMessage", ({ roomId, userId, message }) => {
    if (roomId === seat) addLine(userId, message.text());
  });
  client.on("roomLost", ({ roomId, userId }) => {
    // Who stays is told by TABLE. With our own name: there is no such table for us any more.
    if (roomId === seat && userId === user) getUp();
  });
  client.on("connected", ({ resumed, recovered }) => {
    $("#connection").textContent = `Connected as ${user}`;
    // A new session sits nowhere. The application tells it of the lobby, as at the first time.
    if (!resumed) getUp();
    else if (!recovered) attempt(() => client.request(VER, LOOK));
  });
  client.on("disconnected", ({ reason, text, willRetry }) => {
    $("#connection").textContent = `${reason}: ${text}. ${willRetry ? "Coming back" : "Load the page again"}`;
  });
};

$("#door form").addEventListener("submit", async (event) => {
  event.preventDefault();
  user = new FormData(event.target).get("user");
  client = new Client(NODE_URL, { user });
  listen();
  const isIn = await attempt(() => client.connect());
  if (isIn === undefined) client = undefined;
  show();
});

$("#lobby form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  attempt(async () => {
    const answer = await ask(OPEN_TABLE, { name: form.get("name"), seats: Number(form.get("seats")) });
    sitDown(answer.json().table);
  });
});

$("#table form").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = new FormData(event.target).get("words");
  attempt(async () => {
    await client.broadcastRoom(seat, words);
    // A sender's own messages do not come back to it.
    addLine(user, words);
    event.target.reset();
  });
});

$("#ready").addEventListener("change", (event) =>
  attempt(() => ask(SET_READY, { table: seat, ready: event.target.checked })),
);
$("#start").addEventListener("click", () => attempt(() => ask(START, { table: seat })));
$("#leave").addEventListener("click", () =>
  attempt(async () => {
    await client.leaveRoom(seat);
    getUp();
  }),
);

$("#connection").textContent = "";
show();
$("#door input").focus();
