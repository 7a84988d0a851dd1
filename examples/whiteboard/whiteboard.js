/** The page of the shared whiteboard: a group in which everybody says what they draw. The node needs no code for it. */

import { AlreadyMember, Client, DeliveryError, GroupNotFound, NODE_URL, TimedOut } from "../node.js";
import { COLOURS, HEIGHT, MAX_POINTS, Picture, WIDTH, drawPiece, readPiece } from "./picture.js";

/** The node sends what is drawn in this time together: one write for each member instead of many. */
const INTERVAL_MS = 100;
const TTL_SECONDS = 24 * 3600;

/** What the pointer did in this time is one piece. */
const PIECE_MS = 50;

/** Messages that are read of the history at once. */
const PAGE = 1000;

/** Pieces of a picture in one direct message: it must be well below the node's max_payload_bytes. */
const PIECES_BYTES = 30000;

/** A newcomer asks so often for the picture, and waits so long each time. */
const ASK_TIMES = 3;
const ASK_MS = 2000;

const $ = (selector) => document.querySelector(selector);

/** Any name that nobody else has will do. */
const user = `guest-${[...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(36)).join("")}`;

const client = new Client(NODE_URL, { user });
const context = $("canvas").getContext("2d");
const picture = new Picture();

/** What was drawn here while there was no connection. */
const untold = [];

/** Group ID; the part of the page's address behind #. */
let board = "";
/** True: this page has all that was drawn, and can give it to others. */
let isWhole = false;
/** Ends the waiting for the picture. */
let pictureCame = () => {};
/** Who gives us the picture; null: nobody yet. */
let giver = null;

const pack = (message) => JSON.stringify(message);

const say = (text) => {
  $("#connection").textContent = text;
};

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Take pieces that came from somebody. */
const take = (pieces) => {
  const places = pieces.map((piece) => picture.add(piece));
  if (places.includes("within")) {
    context.clearRect(0, 0, WIDTH, HEIGHT);
    picture.pieces.forEach((piece) => drawPiece(context, piece));
  } else {
    pieces.filter((_, index) => places[index] === "top").forEach((piece) => drawPiece(context, piece));
  }
};

/** Tell the others. It may be that they have it when the answer is lost; a piece that comes twice does no harm. */
const tell = async (piece) => {
  try {
    await client.broadcast(board, pack({ draw: piece }));
  } catch (error) {
    if (error instanceof DeliveryError || error instanceof TimedOut) untold.push(piece);
    else say(`That did not work: ${error.message}`);
  }
};

/** Draw something ourselves. */
const add = (line) => {
  const piece = { at: picture.nextAt(), user, ...line };
  take([piece]);
  tell(piece);
};

/** Return the piece that somebody has drawn by a message; null: it is none. */
const pieceOf = (userId, { draw }) => readPiece({ ...draw, user: userId });

// To come late. What the node has kept is there at once. Whoever has the picture says so, and the first who does is asked
// for it.

const readHistory = async () => {
  for (let after = 0; ; ) {
    const { messages } = await client.history(board, { after, limit: PAGE });
    if (messages.length === 0) return;
    const pieces = [];
    for (const { sender, message } of messages) {
      await received((from, said) => pieces.push(pieceOf(from, said)), { userId: sender, message });
    }
    take(pieces.filter((piece) => piece !== null));
    after = messages.at(-1).offset;
  }
};

const isAlone = async () => {
  const { count, members } = await client.presence(board);
  // A board with too many people to name them is not empty.
  return members.length === count && members.every(({ userId, isAway }) => isAway || userId === user);
};

const askForPicture = async () => {
  const whole = new Promise((resolve) => (pictureCame = resolve));
  for (let times = 0; times < ASK_TIMES && !isWhole; times += 1) {
    giver = null;
    await client.broadcast(board, pack({ ask: "who has the picture?" }));
    await Promise.race([whole, sleep(ASK_MS)]);
  }
  // If nobody gave it, nobody who is here has more than we do.
};

const givePicture = async (to) => {
  let pieces = [];
  let size = 0;
  for (const piece of [...picture.pieces]) {
    const bytes = pack(piece).length;
    if (size + bytes > PIECES_BYTES) {
      await client.sendDirect(to, pack({ board, pieces, isLast: false }));
      pieces = [];
      size = 0;
    }
    pieces.push(piece);
    size += bytes;
  }
  await client.sendDirect(to, pack({ board, pieces, isLast: true }));
};

const groupMessage = (from, said) => {
  if (said.ask !== undefined && isWhole) return client.sendDirect(from, pack({ board, has: true }));
  // The node vouches for who says it, so nobody draws in another's name.
  const piece = pieceOf(from, said);
  if (piece !== null) take([piece]);
  return undefined;
};

const directMessage = (from, message) => {
  if (message.board !== board) return undefined;
  if (message.wants === true && isWhole) return givePicture(from);
  if (isWhole) return undefined;
  if (message.has === true && giver === null) {
    giver = from;
    return client.sendDirect(from, pack({ board, wants: true }));
  }
  if (from === giver && Array.isArray(message.pieces)) {
    take(message.pieces.map(readPiece).filter((piece) => piece !== null));
    if (message.isLast === true) {
      isWhole = true;
      pictureCame();
    }
  }
  return undefined;
};

/** Read what somebody sent. Anybody may send anything, and may be gone when we answer. */
const received = async (react, { userId, message }) => {
  try {
    await react(userId, JSON.parse(message.text()) ?? {});
  } catch (error) {
    console.info(`passed over what ${userId} sent: ${error.message}`);
  }
};

client.on("groupMessage", (event) => received(groupMessage, event));
client.on("directMessage", (event) => received(directMessage, event));
client.on("disconnected", ({ reason, text, willRetry }) => {
  say(`${reason}: ${text}. ${willRetry ? "Coming back" : "Load the page again"}`);
});

const enter = async () => {
  board = location.hash.slice(1);
  if (board === "") {
    board = await client.createGroup({ allowEmpty: true, ttlSeconds: TTL_SECONDS, intervalMs: INTERVAL_MS });
    history.replaceState(null, "", `#${board}`);
    isWhole = true;
    return;
  }
  try {
    await client.joinGroup(board);
  } catch (error) {
    if (!(error instanceof AlreadyMember)) throw error;
  }
  isWhole = false;
  await readHistory();
  if (!(await isAlone())) await askForPicture();
  isWhole = true;
};

client.on("connected", async ({ resumed, recovered }) => {
  say("Looking for the picture");
  try {
    // A session that was resumed is still a member, and if nothing is missing there is nothing to ask for.
    if (!(resumed && recovered && isWhole)) await enter();
    say(`Connected as ${user}`);
    untold.splice(0).forEach(tell);
  } catch (error) {
    if (error instanceof GroupNotFound) say("There is no such board any more");
    // When the connection broke meanwhile, all this happens again.
    else if (client.isConnected) say(`That did not work: ${error.message}`);
  }
});

// The pen.

let points = [];
let timer = null;

const flush = () => {
  timer = null;
  if (points.length === 0) return;
  const [colour, width] = [Number($("[name=colour]:checked").value), Number($("[name=width]").value)];
  add({ colour, width, points });
  // The next piece begins where this one ends.
  points = points.slice(-2);
};

const move = (event) => {
  const box = $("canvas").getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * WIDTH;
  const y = ((event.clientY - box.top) / box.height) * HEIGHT;
  const within = (value, most) => Math.round(Math.max(0, Math.min(most, value)));
  points.push(within(x, WIDTH), within(y, HEIGHT));
  if (points.length >= MAX_POINTS) flush();
  timer ??= setTimeout(flush, PIECE_MS);
};

$("canvas").addEventListener("pointerdown", (event) => {
  event.target.setPointerCapture(event.pointerId);
  points = [];
  move(event);
});
$("canvas").addEventListener("pointermove", (event) => {
  if (points.length > 0) move(event);
});
for (const end of ["pointerup", "pointercancel"]) {
  $("canvas").addEventListener(end, () => {
    clearTimeout(timer);
    flush();
    points = [];
  });
}
$("#clear").addEventListener("click", () => add({ clear: true }));
addEventListener("hashchange", () => location.reload());

$("#colours").append(
  ...COLOURS.map((colour, index) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "colour", value: index });
    input.checked = index === 0;
    input.style.accentColor = colour;
    label.className = "beside";
    label.append(input, ["Black", "Red", "Blue", "Green", "Brown"][index]);
    return label;
  }),
);

client.connect().catch((error) => say(`No node: ${error.message}`));
