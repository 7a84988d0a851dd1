/**
 * The meshrelay client for browsers and Node: groups, rooms, direct messages and commands of your own over WebSocket;
 * with the history and presence of groups.
 *
 * One ES module without dependencies. What it does is what `meshrelay.client` does for Python programs, with the same
 * names in the style of JavaScript; the protocol is the page "The client protocol" of the documentation.
 *
 *     Client -> Connector -> ClientMachine -> Link -> node
 *        ^                        |
 *        |                        +------------<----- node
 *        +-- GroupRecovery <- events, results
 *
 * The machine knows no clock and no socket: bytes and times go in, bytes and outputs come out. All times inside are
 * seconds of a clock that only grows. P2P links are not here: a browser has no UDP.
 */

export const VERSION = "0.1.0";

const PROTOCOL_VERSION = 1;

/** Why a node closed a connection. 4000 to 4499 mean "come back", 4500 to 4999 "stay away". */
export const CloseCode = Object.freeze({
  DRAINING: 4000,
  IDLE: 4001,
  SLOW_CONSUMER: 4002,
  INTERNAL: 4003,
  MOVED: 4004,
  REPLACED: 4500,
  BAD_TOKEN: 4501,
  PROTOCOL_ERROR: 4502,
  FRAME_TOO_LARGE: 4503,
  KICKED: 4504,
  HELLO_TIMEOUT: 4505,
  RATE_LIMITED: 4506,
});

/** Why a connection ended without a word of the node: `Disconnected.reason` when `code` is null. */
export const LocalReason = Object.freeze({
  CLOSED: "CLOSED",
  BROKEN: "BROKEN",
  SILENT: "SILENT",
  NODE_BROKE_PROTOCOL: "NODE_BROKE_PROTOCOL",
  NODE_DOES_NOT_READ: "NODE_DOES_NOT_READ",
  SUSPENDED: "SUSPENDED",
  GAVE_UP: "GAVE_UP",
});

/** The numbers of refusals, see `CommandError.code`. */
export const ErrorCode = Object.freeze({
  MALFORMED_PAYLOAD: 1,
  UNKNOWN_COMMAND: 2,
  NOT_SIGNED_IN: 3,
  RATE_LIMITED: 4,
  MESSAGE_TOO_LARGE: 5,
  TIMED_OUT: 6,
  INTERNAL: 7,
  REFUSED: 8,
  NODE_DRAINING: 9,
  INVALID_TTL: 10,
  EMPTY_AND_NOT_JOINED: 11,
  NODE_OFFLINE: 12,
  TOO_MANY_GROUPS: 13,
  TOO_MANY_ROOMS: 14,
  ALREADY_MEMBER: 20,
  GROUP_NOT_FOUND: 21,
  NOT_MEMBER: 22,
  ROOM_FULL: 23,
  NOT_IN_ROOM: 24,
  ROOM_NOT_FOUND: 25,
  USER_NOT_FOUND: 30,
  MESSAGE_IS_EMPTY: 31,
  NODES_NOT_FOUND: 32,
  USER_DECLINED: 33,
  NOT_ENOUGH_MEMBERS: 40,
  LINK_GROUP_SIZE_INVALID: 41,
});

const Status = Object.freeze({ UNRELIABLE: 0, OK: 1, BAD: 4, ERROR: 5, PUSH: 255 });

const CORE_VER = 0;
const BUILT_IN_VER = 1;

const Core = Object.freeze({ HELLO: 1, PING: 2, PONG: 3, GOODBYE: 4, ACK: 5 });

const Command = Object.freeze({
  ROOM_CREATE: 100,
  ROOM_JOIN: 101,
  ROOM_LEAVE: 102,
  ROOM_BROADCAST: 103,
  ROOM_MEMBERS: 104,
  ROOM_OWNER: 105,
  ROOM_LOST: 106,
  GROUP_CREATE: 110,
  GROUP_JOIN: 111,
  GROUP_LEAVE: 112,
  GROUP_BROADCAST: 113,
  GROUP_JOIN_RANDOM: 114,
  GROUP_LIST: 115,
  GROUP_LOST: 116,
  GROUP_BACK: 117,
  GROUP_RECOVER: 118,
  GROUP_HISTORY: 119,
  GROUP_PRESENCE: 140,
  DM_SEND: 120,
  DM_CLEAR: 121,
  DM_PEER_GONE: 122,
});

const HEADER_BYTES = 12;
const GROUP_ID_BYTES = 52;
const MAX_USER_ID_BYTES = 128;

/** Largest payload taken from a node, and the message around it. */
const MAX_PUSH_BYTES = 1 << 20;
const MAX_MESSAGE_BYTES = MAX_PUSH_BYTES + HEADER_BYTES;

/** Until the node tells its own limit. */
const DEFAULT_MAX_PAYLOAD_BYTES = 65536;

/** What is sent in one turn goes out in messages of about this size: each one costs, whatever it holds. */
const GATHER_BYTES = 65536;

/** Request IDs of the connection's own HELLO and PINGs; never given to a request. */
const PROBE_ID = 2 ** 32 - 1;
const HELLO_ID = 2 ** 32 - 2;
const MAX_REQUEST_ID = HELLO_ID - 1;

/** Longest answer of the endpoint page, in characters. */
const MAX_ENDPOINT_ANSWER = 65536;

const isStayAway = (code) => code !== null && code >= 4500 && code < 5000;

const CLOSE_NAMES = new Map(Object.entries(CloseCode).map(([name, code]) => [code, name]));
const reasonOf = (code, local) => (code === null ? local : (CLOSE_NAMES.get(code) ?? "UNKNOWN"));

// ignoreBOM keeps a byte order mark as what it is: bytes of the text.
const STRICT_UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LENIENT_UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });
const UTF8 = new TextEncoder();
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Every error of this module. */
export class MeshRelayError extends Error {}

/** The node refused a command; the connection lives. There is a class for each code. */
export class CommandError extends MeshRelayError {
  /**
   * @param {string} text for people
   * @param {number} code one of `ErrorCode`, or a newer one
   * @param {number} status 4: the caller's fault, the same will fail again. 5: the node's, another try may succeed
   */
  constructor(text = "command failed", code = ErrorCode.INTERNAL, status = Status.BAD) {
    super(text);
    this.code = code;
    this.status = status;
  }

  /** True: another try may succeed. */
  get isNodesFault() {
    return this.status === Status.ERROR;
  }
}

const refusal = (code, defaultText, defaultStatus = Status.BAD) => {
  const Refusal = class extends CommandError {
    constructor(text = defaultText, _code = code, status = defaultStatus) {
      super(text || defaultText, code, status);
    }
  };
  Refusal.code = code;
  return Refusal;
};

export const MalformedPayload = refusal(ErrorCode.MALFORMED_PAYLOAD, "malformed payload");
export const UnknownCommand = refusal(ErrorCode.UNKNOWN_COMMAND, "unknown command");
export const NotSignedIn = refusal(ErrorCode.NOT_SIGNED_IN, "not signed in: HELLO comes first");
export const RateLimited = refusal(ErrorCode.RATE_LIMITED, "rate limited");
export const MessageTooLarge = refusal(ErrorCode.MESSAGE_TOO_LARGE, "message too large");
export const TimedOut = refusal(ErrorCode.TIMED_OUT, "timed out", Status.ERROR);
export const InternalError = refusal(ErrorCode.INTERNAL, "internal error", Status.ERROR);
export const Refused = refusal(ErrorCode.REFUSED, "refused by the application");
export const NodeDraining = refusal(ErrorCode.NODE_DRAINING, "node is draining", Status.ERROR);
export const InvalidTTL = refusal(ErrorCode.INVALID_TTL, "ttl must be greater than 10 seconds");
export const EmptyAndNotJoined = refusal(ErrorCode.EMPTY_AND_NOT_JOINED, "allow_empty and join are both false");
export const NodeOffline = refusal(ErrorCode.NODE_OFFLINE, "node is offline", Status.ERROR);
export const TooManyGroups = refusal(ErrorCode.TOO_MANY_GROUPS, "too many groups");
export const TooManyRooms = refusal(ErrorCode.TOO_MANY_ROOMS, "too many rooms");
export const AlreadyMember = refusal(ErrorCode.ALREADY_MEMBER, "already a member of the group");
export const GroupNotFound = refusal(ErrorCode.GROUP_NOT_FOUND, "no such group");
export const NotMember = refusal(ErrorCode.NOT_MEMBER, "not a member of the group");
export const RoomFull = refusal(ErrorCode.ROOM_FULL, "the room is full");
export const NotInRoom = refusal(ErrorCode.NOT_IN_ROOM, "not in the room");
export const RoomNotFound = refusal(ErrorCode.ROOM_NOT_FOUND, "no such room");
export const UserNotFound = refusal(ErrorCode.USER_NOT_FOUND, "no such user");
export const MessageIsEmpty = refusal(ErrorCode.MESSAGE_IS_EMPTY, "the message is empty");
export const NodesNotFound = refusal(ErrorCode.NODES_NOT_FOUND, "the node of the user is not known", Status.ERROR);
export const UserDeclined = refusal(ErrorCode.USER_DECLINED, "the user declined the message");
export const NotEnoughMembers = refusal(ErrorCode.NOT_ENOUGH_MEMBERS, "not enough members with a UDP address");
export const LinkGroupSizeInvalid = refusal(ErrorCode.LINK_GROUP_SIZE_INVALID, "link group size invalid");

/** It went wrong on the way; it may be tried again once the client is connected. */
export class DeliveryError extends MeshRelayError {}

/** There is no signed-in connection at this moment; nothing was sent. */
export class NotConnected extends DeliveryError {
  constructor(text = "not connected") {
    super(text);
  }
}

/** The connection ended while the request was on its way. The node may or may not have acted upon it. */
export class ConnectionLost extends DeliveryError {
  /** @param {number | null} closeCode what the node gave as its reason; null when it gave none */
  constructor(closeCode, text) {
    super(closeCode === null ? `connection lost: ${text}` : `connection lost: ${closeCode} ${text}`);
    this.closeCode = closeCode;
  }
}

/** As many requests as `maxPendingRequests` allows wait for their answers; nothing was sent. */
export class TooManyPending extends DeliveryError {
  constructor(limit) {
    super(`${limit} requests are waiting for their answers (maxPendingRequests)`);
    this.limit = limit;
  }
}

/** The node does not read as fast as this program sends; nothing was sent. Wait for `Client.whenDrained`. */
export class UnsentFull extends DeliveryError {
  constructor(unsentBytes, limitBytes) {
    super(`${unsentBytes} bytes wait to be sent, maxUnsentBytes is ${limitBytes}`);
    this.unsentBytes = unsentBytes;
    this.limitBytes = limitBytes;
  }
}

/** No node could be reached at the address, or it did not speak as it should. */
export class ConnectFailed extends MeshRelayError {
  constructor(url, detail, cause = undefined) {
    super(`cannot connect to ${url}: ${detail}`, cause === undefined ? undefined : { cause });
    this.url = url;
    this.detail = detail;
  }
}

/** The node was reached and does not take this user or token. */
export class SignInRefused extends ConnectFailed {
  /** @param {number | null} closeCode null: the node answered with an error */
  constructor(url, closeCode, text) {
    super(url, closeCode === null ? text : `${closeCode} ${text}`);
    this.closeCode = closeCode;
  }
}

/** The node does not follow the protocol. */
export class RemoteProtocolError extends MeshRelayError {
  constructor(text, closeCode = CloseCode.PROTOCOL_ERROR) {
    super(text);
    this.closeCode = closeCode;
  }
}

const REFUSALS = {
  MalformedPayload,
  UnknownCommand,
  NotSignedIn,
  RateLimited,
  MessageTooLarge,
  TimedOut,
  InternalError,
  Refused,
  NodeDraining,
  InvalidTTL,
  EmptyAndNotJoined,
  NodeOffline,
  TooManyGroups,
  TooManyRooms,
  AlreadyMember,
  GroupNotFound,
  NotMember,
  RoomFull,
  NotInRoom,
  RoomNotFound,
  UserNotFound,
  MessageIsEmpty,
  NodesNotFound,
  UserDeclined,
  NotEnoughMembers,
  LinkGroupSizeInvalid,
};
const REFUSAL_BY_CODE = new Map(Object.values(REFUSALS).map((Refusal) => [Refusal.code, Refusal]));

const OTHER_ERRORS = {
  MeshRelayError,
  CommandError,
  DeliveryError,
  NotConnected,
  ConnectionLost,
  TooManyPending,
  UnsentFull,
  ConnectFailed,
  SignInRefused,
  RemoteProtocolError,
};
// Said in so many words: programs that make scripts smaller give classes other names.
for (const [name, Class] of Object.entries({ ...REFUSALS, ...OTHER_ERRORS })) {
  Object.defineProperty(Class.prototype, "name", { value: name, configurable: true, writable: true });
}

const commandError = (status, code, text) => {
  const Refusal = REFUSAL_BY_CODE.get(code) ?? CommandError;
  return new Refusal(text || undefined, code, status);
};

/** Bytes that came from the node. They are the program's own: nothing else looks at them. */
export class Message extends Uint8Array {
  /**
   * The bytes as text.
   * @throws {TypeError} they are not UTF-8
   */
  text() {
    return STRICT_UTF8.decode(this);
  }

  /**
   * The bytes as JSON.
   * @throws {TypeError | SyntaxError} they are none
   */
  json() {
    return JSON.parse(this.text());
  }
}

const encodeText = (text) => {
  if (LONE_SURROGATE.test(text)) throw new MalformedPayload("the text is not Unicode: it has half of a character");
  return UTF8.encode(text);
};

/** Return what a program gave as a message: a string as UTF-8, any bytes as they are. */
const toBytes = (message) => {
  if (typeof message === "string") return encodeText(message);
  if (message instanceof Uint8Array) return message;
  if (ArrayBuffer.isView(message)) return new Uint8Array(message.buffer, message.byteOffset, message.byteLength);
  if (Object.prototype.toString.call(message) === "[object ArrayBuffer]") return new Uint8Array(message);
  throw new TypeError("a message is a string, an ArrayBuffer or a view of one");
};

const checkUserId = (userId) => {
  if (typeof userId !== "string") throw new TypeError("a user ID is a string");
  const bytes = encodeText(userId);
  if (bytes.length < 1 || bytes.length > MAX_USER_ID_BYTES) {
    throw new MalformedPayload(`user ID has ${bytes.length} bytes, allowed are 1 to ${MAX_USER_ID_BYTES}`);
  }
  return bytes;
};

const checkInteger = (value, limit, what) => {
  if (!Number.isInteger(value) || value < 0 || value > limit) {
    throw new RangeError(`${what} is ${String(value)}, it must be a whole number from 0 to ${limit}`);
  }
  return value;
};

/** Writes one payload from front to back; for the commands of an application as well as for ours. */
export class PayloadWriter {
  #bytes = new Uint8Array(64);
  #view = new DataView(this.#bytes.buffer);
  #size = 0;

  /** One byte. */
  u8(value, field = "value") {
    checkInteger(value, 255, field);
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
    return this;
  }

  /** Two bytes, big-endian. */
  u16(value, field = "value") {
    checkInteger(value, 65535, field);
    const at = this.#grow(2);
    this.#view.setUint16(at, value);
    return this;
  }

  /** Four bytes, big-endian. */
  u32(value, field = "value") {
    checkInteger(value, 2 ** 32 - 1, field);
    const at = this.#grow(4);
    this.#view.setUint32(at, value);
    return this;
  }

  /** Eight bytes, big-endian, from a BigInt: a number cannot hold them all. */
  u64(value, field = "value") {
    if (typeof value !== "bigint" || BigInt.asUintN(64, value) !== value) {
      throw new RangeError(`${field} must be a BigInt from 0 to 2^64 - 1`);
    }
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value);
    return this;
  }

  /** Eight bytes, big-endian, two's complement, from a BigInt. */
  i64(value, field = "value") {
    if (typeof value !== "bigint" || BigInt.asIntN(64, value) !== value) {
      throw new RangeError(`${field} must be a BigInt from -2^63 to 2^63 - 1`);
    }
    const at = this.#grow(8);
    this.#view.setBigInt64(at, value);
    return this;
  }

  /** A group or room ID: exactly 52 ASCII characters. */
  gid(groupId) {
    if (typeof groupId !== "string" || !/^[\x00-\x7f]{52}$/.test(groupId)) {
      throw new MalformedPayload(`a group ID has ${GROUP_ID_BYTES} ASCII characters`);
    }
    return this.bytes(UTF8.encode(groupId));
  }

  /** u8 length and that many bytes of UTF-8. */
  str8(text) {
    const encoded = encodeText(text);
    return this.u8(encoded.length, "length of the text").bytes(encoded);
  }

  /** A str8 of 1 to 128 bytes. */
  userId(userId) {
    const encoded = checkUserId(userId);
    return this.u8(encoded.length).bytes(encoded);
  }

  /** Bytes, or the UTF-8 of a string, as they are. */
  bytes(message) {
    const given = toBytes(message);
    const at = this.#grow(given.length);
    this.#bytes.set(given, at);
    return this;
  }

  /** Return what was written. */
  finish() {
    return this.#bytes.slice(0, this.#size);
  }

  /** Return where the next `count` bytes belong; only then is the view the one to write to. */
  #grow(count) {
    const at = this.#size;
    this.#size += count;
    if (this.#size > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#size, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}

/** Reads one payload from front to back. Each method throws MalformedPayload, which names the field. */
export class PayloadReader {
  #bytes;
  #view;
  #at = 0;

  constructor(payload) {
    this.#bytes = toBytes(payload);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
  }

  u8(field = "value") {
    return this.#view.getUint8(this.#take(1, field));
  }

  u16(field = "value") {
    return this.#view.getUint16(this.#take(2, field));
  }

  u32(field = "value") {
    return this.#view.getUint32(this.#take(4, field));
  }

  /** Eight bytes as a BigInt. */
  u64(field = "value") {
    return this.#view.getBigUint64(this.#take(8, field));
  }

  /** Eight bytes as a BigInt, two's complement. */
  i64(field = "value") {
    return this.#view.getBigInt64(this.#take(8, field));
  }

  gid(field = "group ID") {
    const start = this.#take(GROUP_ID_BYTES, field);
    const bytes = this.#bytes.subarray(start, this.#at);
    if (bytes.some((byte) => byte > 127)) throw new MalformedPayload(`${field}: not ASCII`);
    return String.fromCharCode(...bytes);
  }

  str8(field = "text") {
    const size = this.u8(field);
    const start = this.#take(size, field);
    try {
      return STRICT_UTF8.decode(this.#bytes.subarray(start, this.#at));
    } catch {
      throw new MalformedPayload(`${field}: not UTF-8`);
    }
  }

  userId(field = "user") {
    const start = this.#at;
    const userId = this.str8(field);
    const size = this.#at - start - 1;
    if (size < 1 || size > MAX_USER_ID_BYTES) {
      throw new MalformedPayload(`${field}: user ID has ${size} bytes, allowed are 1 to ${MAX_USER_ID_BYTES}`);
    }
    return userId;
  }

  /** The next `size` bytes, as bytes of their own. */
  bytes(size, field = "bytes") {
    const start = this.#take(size, field);
    return new Message(this.#bytes.subarray(start, this.#at));
  }

  /** All that is left, as bytes of its own; may be empty. */
  rest() {
    const start = this.#at;
    this.#at = this.#bytes.length;
    return new Message(this.#bytes.subarray(start));
  }

  /** True when everything was read. */
  get isEmpty() {
    return this.#at === this.#bytes.length;
  }

  /** Expect that nothing is left after `field`. */
  end(field = "the last field") {
    const left = this.#bytes.length - this.#at;
    if (left > 0) throw new MalformedPayload(`${left} bytes too many after ${field}`);
  }

  #take(size, field) {
    const start = this.#at;
    if (start + size > this.#bytes.length) {
      throw new MalformedPayload(`${field}: ${size} bytes needed, ${this.#bytes.length - start} left`);
    }
    this.#at = start + size;
    return start;
  }
}

const EMPTY = new Uint8Array(0);

const encodeFrame = (ver, status, cmd, requestId, payload) => {
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  const head = new DataView(frame.buffer);
  head.setUint8(0, ver);
  head.setUint8(1, status);
  head.setUint16(2, cmd);
  head.setUint32(4, requestId);
  head.setUint32(8, payload.length);
  frame.set(payload, HEADER_BYTES);
  return frame;
};

/**
 * Yield the frames of one message, which must end with one. Their payloads are views of `data`.
 * @throws {RemoteProtocolError} after what is good: the node's fault
 */
function* readFrames(data, maxPayloadBytes = MAX_PUSH_BYTES) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  while (at < data.length) {
    if (data.length - at < HEADER_BYTES) throw new RemoteProtocolError("a message ends inside a header");
    const length = view.getUint32(at + 8);
    if (length > maxPayloadBytes) {
      const text = `payload of ${length} bytes is over ${maxPayloadBytes}`;
      throw new RemoteProtocolError(text, CloseCode.FRAME_TOO_LARGE);
    }
    const body = at + HEADER_BYTES;
    if (body + length > data.length) throw new RemoteProtocolError("a message ends inside a frame");
    yield {
      ver: view.getUint8(at),
      status: view.getUint8(at + 1),
      cmd: view.getUint16(at + 2),
      requestId: view.getUint32(at + 4),
      payload: data.subarray(body, body + length),
    };
    at = body + length;
  }
}

const createFlags = (allowEmpty, join) => (allowEmpty ? 1 : 0) | (join ? 2 : 0);

const encodeNewGroup = ({ allowEmpty = false, join = true, ttlSeconds = 3600, intervalMs = 0 } = {}) =>
  new PayloadWriter()
    .u8(createFlags(allowEmpty, join))
    .u32(ttlSeconds, "ttlSeconds")
    .u16(intervalMs, "intervalMs")
    .finish();

const encodeJoinRandom = ({ ttlSeconds = 3600, allowEmpty = false, intervalMs = 0, message = EMPTY } = {}) =>
  new PayloadWriter()
    .u32(ttlSeconds, "ttlSeconds")
    .u8(allowEmpty ? 1 : 0)
    .u16(intervalMs, "intervalMs")
    .bytes(message)
    .finish();

const encodeNewRoom = ({ maxMembers = 0, allowEmpty = false, join = true, ttlSeconds = 3600, intervalMs = 0 } = {}) =>
  new PayloadWriter()
    .u16(maxMembers, "maxMembers")
    .u8(createFlags(allowEmpty, join))
    .u32(ttlSeconds, "ttlSeconds")
    .u16(intervalMs, "intervalMs")
    .finish();

const encodeGidMessage = (groupId, message = EMPTY) => new PayloadWriter().gid(groupId).bytes(message).finish();

const encodeDirect = (userId, message = EMPTY) => new PayloadWriter().userId(userId).bytes(message).finish();

const decodeGid = (payload) => {
  const reader = new PayloadReader(payload);
  const groupId = reader.gid();
  reader.end("group ID");
  return groupId;
};

const decodeGidList = (payload) => {
  const reader = new PayloadReader(payload);
  const groupIds = [];
  while (!reader.isEmpty) groupIds.push(reader.gid());
  return groupIds;
};

const decodeCreated = (payload) => {
  const reader = new PayloadReader(payload);
  const flag = reader.u8("created");
  if (flag > 1) throw new MalformedPayload(`created: unknown bits in ${flag}`);
  const groupId = reader.gid();
  reader.end("group ID");
  return { created: flag === 1, groupId };
};

const decodeOwner = (payload) => {
  const reader = new PayloadReader(payload);
  const owner = reader.userId("owner");
  reader.end("owner");
  return owner;
};

const decodeRoomList = (payload) => {
  const reader = new PayloadReader(payload);
  const owner = reader.userId("owner");
  const members = [];
  while (!reader.isEmpty) members.push(reader.userId("member"));
  return { owner, members };
};

const decodePushedMessage = (payload) => {
  const reader = new PayloadReader(payload);
  return [reader.gid(), reader.userId(), reader.rest()];
};

/** Unlike in a request, the user may be empty: that is the node's application. */
const decodePushedDirect = (payload) => {
  if (payload.length > 0 && payload[0] === 0) return ["", new Message(payload.subarray(1))];
  const reader = new PayloadReader(payload);
  return [reader.userId(), reader.rest()];
};

const decodePushedOwner = (payload) => {
  const reader = new PayloadReader(payload);
  const fields = [reader.gid("room ID"), reader.userId("owner")];
  reader.end("owner");
  return fields;
};

/** Flags of GROUP_PRESENCE, and what becomes of a member; in a list, what it is. */
const PRESENCE_ON = 1;
const PRESENCE_OFF = 2;
const Presence = Object.freeze({ THERE: 1, AWAY: 2, GONE: 3 });

/** Epochs are BigInts inside and text for programs: that can be kept as JSON. They are compared for equality only. */
const encodeAskRecover = (groupId, epoch, offset, message = EMPTY) =>
  new PayloadWriter()
    .gid(groupId)
    .u64(epoch, "epoch")
    .u64(BigInt(checkInteger(offset, Number.MAX_SAFE_INTEGER, "offset")))
    .bytes(message)
    .finish();

const encodeAskHistory = (groupId, { after = 0, limit = 100 } = {}) =>
  new PayloadWriter()
    .gid(groupId)
    .u64(BigInt(checkInteger(after, Number.MAX_SAFE_INTEGER, "after")))
    .u16(limit, "limit")
    .finish();

const encodeAskPresence = (groupId, { after = "", limit = 1000, watch = undefined } = {}) => {
  if (typeof after !== "string") throw new TypeError("after is a user ID, or an empty string");
  const flags = watch === undefined ? 0 : watch ? PRESENCE_ON : PRESENCE_OFF;
  return new PayloadWriter().gid(groupId).u8(flags).u16(limit, "limit").bytes(after).finish();
};

/** No group ever comes to 2^53 messages, so offsets are numbers. */
const readOffset = (reader, field) => {
  const offset = reader.u64(field);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) throw new MalformedPayload(`${field}: ${offset} is too large`);
  return Number(offset);
};

/** Unlike elsewhere the sender may be empty: that is the node's application. */
const readEntry = (reader) => {
  const sender = reader.str8("sender");
  if (sender !== "") checkUserId(sender);
  return { sender, ver: reader.u8("ver"), cmd: reader.u16("cmd"), message: reader.rest() };
};

/** What a later version puts behind it is passed over. */
const decodeRecovered = (payload) => {
  const reader = new PayloadReader(payload);
  return { recovered: reader.u8("recovered") !== 0, epoch: reader.u64("epoch"), offset: readOffset(reader, "offset") };
};

const decodeHistory = (payload) => {
  const reader = new PayloadReader(payload);
  const [epoch, head] = [String(reader.u64("epoch")), readOffset(reader, "head")];
  const messages = [];
  for (let offset = readOffset(reader, "first"); !reader.isEmpty; offset += 1) {
    const entry = reader.bytes(reader.u32("length"), "entry");
    messages.push({ offset, ...readEntry(new PayloadReader(entry)) });
  }
  return { epoch, head, messages };
};

const decodePresence = (payload) => {
  const reader = new PayloadReader(payload);
  const count = reader.u32("members");
  const members = [];
  while (!reader.isEmpty) {
    const isAway = reader.u8("state") === Presence.AWAY;
    members.push({ userId: reader.userId(), isAway });
  }
  return { count, members };
};

const decodePushedPresence = (payload) => {
  const reader = new PayloadReader(payload);
  const [groupId, count] = [reader.gid(), reader.u32("members")];
  const users = { [Presence.THERE]: [], [Presence.AWAY]: [], [Presence.GONE]: [] };
  while (!reader.isEmpty) {
    const change = reader.u8("change");
    const userId = reader.userId();
    users[change]?.push(userId);
  }
  return [groupId, count, users[Presence.THERE], users[Presence.AWAY], users[Presence.GONE]];
};

const decodePushedEntry = (payload) => {
  const reader = new PayloadReader(payload);
  const place = { groupId: reader.gid(), epoch: reader.u64("epoch"), offset: readOffset(reader, "offset") };
  return { ...place, ...readEntry(reader) };
};

/** The texts of refusals and of GOODBYE are for people: what is no UTF-8 in them is replaced. */
const decodeError = (payload) => {
  const reader = new PayloadReader(payload);
  return { code: reader.u16("code"), text: LENIENT_UTF8.decode(reader.rest()) };
};

const encodeHello = ({ user, token, client, acks, resume, received }) => {
  const hello = { protocol: PROTOCOL_VERSION };
  if (user !== null) hello.user = user;
  if (token !== null) hello.token = token;
  hello.client = client;
  if (acks) hello.acks = true;
  if (resume) hello.resume = resume;
  if (resume && acks) hello.received = received;
  return UTF8.encode(JSON.stringify(hello));
};

const WELCOME_TYPES = Object.freeze({
  protocol: "number",
  sid: "string",
  node: "string",
  user: "string",
  resumed: "boolean",
  recovered: "boolean",
  heartbeat_seconds: "number",
  max_payload_bytes: "number",
});

const decodeWelcome = (payload) => {
  let welcome;
  try {
    welcome = JSON.parse(STRICT_UTF8.decode(payload));
  } catch (error) {
    throw new MalformedPayload(`HELLO answer: ${error.message}`);
  }
  if (typeof welcome !== "object" || welcome === null || Array.isArray(welcome)) {
    throw new MalformedPayload("HELLO answer: not an object");
  }
  for (const [member, type] of Object.entries(WELCOME_TYPES)) {
    const value = Object.hasOwn(welcome, member) ? welcome[member] : undefined;
    if (typeof value !== type || (type === "number" && !Number.isFinite(value))) {
      throw new MalformedPayload(`HELLO answer: ${member} is no ${type}`);
    }
  }
  if (!Number.isInteger(welcome.max_payload_bytes) || !Number.isInteger(welcome.protocol)) {
    throw new MalformedPayload("HELLO answer: a whole number is needed");
  }
  return welcome;
};

/** What all events have in common: listen to this class, or to "event", to hear everything. */
export class MeshEvent {}

/** The client is signed in, for the first time or again. */
export class Connected extends MeshEvent {
  constructor(userId, nodeId, sid, resumed, recovered) {
    super();
    this.userId = userId;
    this.nodeId = nodeId;
    /** Names the session; a secret. */
    this.sid = sid;
    /** True: it is the session from before the break, with its memberships. */
    this.resumed = resumed;
    /** True: nothing that was pushed in between is missing. */
    this.recovered = recovered;
    Object.freeze(this);
  }
}

/** The connection of a signed-in client is gone. */
export class Disconnected extends MeshEvent {
  constructor(code, reason, text, willRetry) {
    super();
    /** Close code of the node; null when it gave none. */
    this.code = code;
    /** Name of that code, or one of `LocalReason`. */
    this.reason = reason;
    /** For people. */
    this.text = text;
    /** True: the client comes back by itself. */
    this.willRetry = willRetry;
    Object.freeze(this);
  }
}

class GroupEvent extends MeshEvent {
  constructor(groupId, userId, message) {
    super();
    this.groupId = groupId;
    this.userId = userId;
    this.message = message;
    Object.freeze(this);
  }
}

/** Another member broadcast `message`. */
export class GroupMessageReceived extends MeshEvent {
  constructor(groupId, userId, message, offset = 0) {
    super();
    this.groupId = groupId;
    this.userId = userId;
    this.message = message;
    /** Its place in the history, from 1; 0 = it has none, or the group was joined without `recover`. */
    this.offset = offset;
    Object.freeze(this);
  }
}

/** A user joined and said `message`. */
export class GroupMemberJoined extends GroupEvent {}
/** A user left and said `message`. */
export class GroupMemberLeft extends GroupEvent {}
/** A member was lost without leaving; the application of the node made `message`. */
export class GroupMemberLost extends GroupEvent {}
/** A lost member is back; the application of the node made `message`. */
export class GroupMemberBack extends GroupEvent {}

/**
 * The client is in a group again that it joined with `recover`, after a break. Messages that were missed follow as if
 * they came just now. When `recovered` is false something may be missing.
 */
export class GroupRecovered extends MeshEvent {
  constructor(groupId, recovered, error = null) {
    super();
    this.groupId = groupId;
    this.recovered = recovered;
    /** Why the client is in the group no more; null: it is. */
    this.error = error;
    Object.freeze(this);
  }
}

/** Members of a watched group came, were lost or went. Without any of them: list them anew. */
export class GroupPresenceChanged extends MeshEvent {
  constructor(groupId, count, there = [], away = [], gone = []) {
    super();
    this.groupId = groupId;
    /** How many there are now. */
    this.count = count;
    /** User IDs: came, or are back. */
    this.there = there;
    /** Lost their connection, and may come back. */
    this.away = away;
    /** Are members no more. */
    this.gone = gone;
    Object.freeze(this);
  }
}

/** A message with its place in the history. Programs hear `GroupMessageReceived` or `PushReceived` instead. */
class GroupLogged extends MeshEvent {
  constructor(push) {
    super();
    this.push = push;
  }
}

class RoomEvent extends MeshEvent {
  constructor(roomId, userId, message) {
    super();
    this.roomId = roomId;
    this.userId = userId;
    this.message = message;
    Object.freeze(this);
  }
}

/** Another member broadcast `message`. */
export class RoomMessageReceived extends RoomEvent {}
/** A user joined and said `message`, which may be empty. */
export class RoomMemberJoined extends RoomEvent {}
/** A user left and said `message`, which may be empty. */
export class RoomMemberLeft extends RoomEvent {}
/** A member was lost without leaving. With this client's own user ID: the client is in the room no more. */
export class RoomMemberLost extends RoomEvent {}

/** The room has another owner. */
export class RoomOwnerChanged extends MeshEvent {
  constructor(roomId, owner) {
    super();
    this.roomId = roomId;
    this.owner = owner;
    Object.freeze(this);
  }
}

class DirectEvent extends MeshEvent {
  constructor(userId, message) {
    super();
    /** The other user; "" is the node's application, which no user can call itself. */
    this.userId = userId;
    this.message = message;
    Object.freeze(this);
  }
}

/** Another user sent `message` to this one. */
export class DirectMessageReceived extends DirectEvent {}
/** A user has ended the exchange of direct messages and said `message` as the last. */
export class DirectCleared extends DirectEvent {}
/** The session of a user with whom this one exchanged direct messages is over. */
export class DirectPeerGone extends DirectEvent {}

/** A push of the application's own (ver 2 to 255), or one that this version has no class for. */
export class PushReceived extends MeshEvent {
  constructor(ver, cmd, payload) {
    super();
    this.ver = ver;
    this.cmd = cmd;
    this.payload = payload;
    Object.freeze(this);
  }
}

const EVENT_CLASSES = Object.freeze({
  event: MeshEvent,
  connected: Connected,
  disconnected: Disconnected,
  groupMessage: GroupMessageReceived,
  groupJoined: GroupMemberJoined,
  groupLeft: GroupMemberLeft,
  groupLost: GroupMemberLost,
  groupBack: GroupMemberBack,
  groupRecovered: GroupRecovered,
  groupPresence: GroupPresenceChanged,
  roomMessage: RoomMessageReceived,
  roomJoined: RoomMemberJoined,
  roomLeft: RoomMemberLeft,
  roomLost: RoomMemberLost,
  roomOwner: RoomOwnerChanged,
  directMessage: DirectMessageReceived,
  directCleared: DirectCleared,
  directPeerGone: DirectPeerGone,
  pushReceived: PushReceived,
});
for (const [name, Class] of Object.entries(EVENT_CLASSES)) {
  // On the prototype: `switch (event.name)` works, and no event carries it.
  Object.defineProperty(Class.prototype, "name", { value: name });
}

const MESSAGE_EVENTS = new Map([
  [Command.GROUP_BROADCAST, GroupMessageReceived],
  [Command.GROUP_JOIN, GroupMemberJoined],
  [Command.GROUP_LEAVE, GroupMemberLeft],
  [Command.GROUP_LOST, GroupMemberLost],
  [Command.GROUP_BACK, GroupMemberBack],
  [Command.ROOM_BROADCAST, RoomMessageReceived],
  [Command.ROOM_JOIN, RoomMemberJoined],
  [Command.ROOM_LEAVE, RoomMemberLeft],
  [Command.ROOM_LOST, RoomMemberLost],
]);
const DIRECT_EVENTS = new Map([
  [Command.DM_SEND, DirectMessageReceived],
  [Command.DM_CLEAR, DirectCleared],
  [Command.DM_PEER_GONE, DirectPeerGone],
]);

/**
 * Return the event that a push of ver 1 to 255 stands for.
 * @throws {MalformedPayload} the node's fault
 */
const decodePush = (ver, cmd, payload) => {
  if (ver === BUILT_IN_VER) {
    const MessageEvent = MESSAGE_EVENTS.get(cmd);
    if (MessageEvent !== undefined) return new MessageEvent(...decodePushedMessage(payload));
    const DirectMessageEvent = DIRECT_EVENTS.get(cmd);
    if (DirectMessageEvent !== undefined) return new DirectMessageEvent(...decodePushedDirect(payload));
    if (cmd === Command.GROUP_RECOVER) return new GroupLogged(decodePushedEntry(payload));
    if (cmd === Command.GROUP_PRESENCE) return new GroupPresenceChanged(...decodePushedPresence(payload));
    if (cmd === Command.ROOM_OWNER) return new RoomOwnerChanged(...decodePushedOwner(payload));
  }
  return new PushReceived(ver, cmd, new Message(payload));
};

/** An output of the machine: this waiter has its result, or its error. */
class Settled {
  constructor(waiter, payload, error) {
    this.waiter = waiter;
    this.payload = payload;
    this.error = error;
  }
}

/** An output of the machine: the connection ended before the user was signed in. */
class SignInFailed {
  constructor(code, text, isRefusal, willRetry) {
    this.code = code;
    this.text = text;
    this.isRefusal = isRefusal;
    this.willRetry = willRetry;
  }
}

/** Requests that wait for their answers. A waiter is settled once: by the answer, its deadline, or the end. */
class PendingRequests {
  #limit;
  #lastId = 0;
  #pending = new Map();
  /** No deadline is before it. Exact after `expire`: it need not be found anew for each answer. */
  #earliest = null;

  constructor(limit) {
    this.#limit = limit;
  }

  get count() {
    return this.#pending.size;
  }

  get nextDeadline() {
    return this.#pending.size > 0 ? this.#earliest : null;
  }

  add(waiter, now, timeoutSeconds) {
    if (this.#pending.size >= this.#limit) throw new TooManyPending(this.#limit);
    let requestId = this.#lastId + 1;
    // After 2^32 requests IDs begin again, and a very old request may still be open.
    while (this.#pending.has(requestId) || requestId > MAX_REQUEST_ID) {
      requestId = requestId < MAX_REQUEST_ID ? requestId + 1 : 1;
    }
    this.#lastId = requestId;
    const deadline = now + timeoutSeconds;
    if (this.#earliest === null || this.#pending.size === 0 || deadline < this.#earliest) this.#earliest = deadline;
    this.#pending.set(requestId, { waiter, deadline, timeoutSeconds });
    return requestId;
  }

  /** Nobody waits for it any more; its answer will be passed over. */
  forget(waiter) {
    for (const [requestId, entry] of this.#pending) {
      if (entry.waiter === waiter) {
        this.#pending.delete(requestId);
        return;
      }
    }
  }

  /** Settle the request that a response belongs to; null: nobody waits for it. */
  answered(frame) {
    const error = frame.status === Status.OK ? null : decodeError(frame.payload);
    const entry = this.#pending.get(frame.requestId);
    if (entry === undefined) return null;
    this.#pending.delete(frame.requestId);
    if (error === null) return new Settled(entry.waiter, new Message(frame.payload), null);
    return new Settled(entry.waiter, null, commandError(frame.status, error.code, error.text));
  }

  /** Settle what is over its deadline, oldest first. */
  expire(now) {
    if (this.#earliest === null || now < this.#earliest) return [];
    const settled = [];
    let earliest = null;
    for (const [requestId, { waiter, deadline, timeoutSeconds }] of this.#pending) {
      if (deadline <= now) {
        this.#pending.delete(requestId);
        settled.push(new Settled(waiter, null, new TimedOut(`no answer within ${timeoutSeconds} seconds`)));
      } else if (earliest === null || deadline < earliest) {
        earliest = deadline;
      }
    }
    this.#earliest = earliest;
    return settled;
  }

  /** Settle all, oldest first, each with an error of its own. */
  failAll(makeError) {
    const settled = [...this.#pending.values()].map((entry) => new Settled(entry.waiter, null, makeError()));
    this.#pending.clear();
    this.#earliest = null;
    return settled;
  }
}

/** The protocol wants an ACK at least every 5 s, and one for each quarter of the default replay_bytes is wise. */
const ACK_SECONDS = 1;
const ACK_BYTES = 65536;

/** Pushes of ver >= 1 in one session, mod 2^32, and when the node has to be told. */
class PushCount {
  total = 0;
  dueAt = null;
  #unacknowledgedBytes = 0;

  /** One more. */
  add(sizeBytes, now) {
    this.total = (this.total + 1) >>> 0;
    this.#unacknowledgedBytes += sizeBytes;
    if (this.dueAt === null) this.dueAt = now + ACK_SECONDS;
  }

  /** True: an ACK has to go out. Asked whenever something came, for timers of a hidden page hardly run. */
  isDue(now) {
    return this.dueAt !== null && (now >= this.dueAt || this.#unacknowledgedBytes >= ACK_BYTES);
  }

  /** Return the payload of an ACK that goes out now. */
  acknowledge() {
    this.forget();
    return new PayloadWriter().u32(this.total).finish();
  }

  /** The connection is another one, HELLO has told the count. */
  forget() {
    this.dueAt = null;
    this.#unacknowledgedBytes = 0;
  }

  /** The session is another one. */
  restart() {
    this.forget();
    this.total = 0;
  }
}

/** The node sends PING every heartbeat. Nothing heard (or said) for 1.25 of them: probe; after 2.5 it is dead. */
const PROBE_HEARTBEATS = 1.25;
const SILENCE_HEARTBEATS = 2.5;

/** Less is taken for this much: no node's word makes a client send without a pause. */
const MIN_HEARTBEAT_SECONDS = 0.1;

/** Whether the node is alive. Only what was heard counts as life. */
class Pulse {
  #heardAt;
  #sentAt;
  #probedAt;
  #probeSeconds;
  #silenceSeconds;
  #wakeSeconds;
  /** A page that slept knows nothing of its connection: it has asked, and waits for the answer until then. */
  #verdictAt = null;

  constructor(now, heartbeatSeconds, wakeSeconds) {
    this.#heardAt = this.#sentAt = this.#probedAt = now;
    const heartbeat = Math.max(heartbeatSeconds, MIN_HEARTBEAT_SECONDS);
    this.#probeSeconds = heartbeat * PROBE_HEARTBEATS;
    this.#silenceSeconds = heartbeat * SILENCE_HEARTBEATS;
    this.#wakeSeconds = wakeSeconds;
  }

  get heardAt() {
    return this.#heardAt;
  }

  get probeAt() {
    return Math.max(Math.min(this.#heardAt, this.#sentAt), this.#probedAt) + this.#probeSeconds;
  }

  get deadAt() {
    return this.#verdictAt ?? this.#heardAt + this.#silenceSeconds;
  }

  heard(now) {
    this.#heardAt = now;
    // What arrives may be what lay in the kernel while the page slept: a respite, and no answer yet.
    if (this.#verdictAt !== null) this.#verdictAt = now + this.#wakeSeconds;
  }

  sent(now) {
    this.#sentAt = now;
  }

  probed(now) {
    this.#probedAt = now;
  }

  /** The node has answered a probe. */
  answered() {
    this.#verdictAt = null;
  }

  /** The page woke up. True: a probe has to go out. */
  wake(now) {
    if (this.#verdictAt !== null) return false;
    this.#verdictAt = now + this.#wakeSeconds;
    this.#probedAt = now;
    return true;
  }
}

const CLOSED_HERE = "closed by this program";

const State = Object.freeze({ OFFLINE: "offline", SIGNING_IN: "signing in", ONLINE: "online" });

/**
 * One user's end of the protocol, without IO. It lives as long as its client and sees one connection after another:
 *
 *                    linkOpened               HELLO answered
 *     OFFLINE --------------------> SIGNING_IN -------------> ONLINE
 *        ^                              |                        |
 *        +-- linkLost, GOODBYE, silence, broken protocol, leave -+
 *
 * `Disconnected` and `SignInFailed` among the outputs mean that it is done with the connection; `wireCloseCode` is then
 * the code to close the WebSocket with.
 */
class ClientMachine {
  state = State.OFFLINE;
  wireCloseCode = 1000;
  #identity;
  #requests;
  #outgoing = [];
  #outgoingBytes = 0;
  #maxPayloadBytes = DEFAULT_MAX_PAYLOAD_BYTES;
  #sid = "";
  #pushes = new PushCount();
  #signInBy = 0;
  #pulse;

  /** @param identity user, clientName, acks, resume, reconnect, signInSeconds, wakeSeconds */
  constructor(identity, maxPendingRequests) {
    this.#identity = identity;
    this.#requests = new PendingRequests(maxPendingRequests);
    this.#pulse = new Pulse(0, 1, identity.wakeSeconds);
  }

  /** The session to go on with; empty when there is none. */
  get resumeSid() {
    return this.#identity.resume ? this.#sid : "";
  }

  /** Pushes received in the session, mod 2^32. */
  get received() {
    return this.#pushes.total;
  }

  get pendingCount() {
    return this.#requests.count;
  }

  /** Bytes that `dataToSend` would return. */
  get outgoingBytes() {
    return this.#outgoingBytes;
  }

  /** A new connection stands; say HELLO on it. */
  linkOpened(token, now) {
    const identity = this.#identity;
    this.state = State.SIGNING_IN;
    this.wireCloseCode = 1000;
    this.#clearOutgoing();
    this.#pushes.forget();
    this.#signInBy = now + identity.signInSeconds;
    const hello = encodeHello({
      user: identity.user,
      token,
      client: identity.clientName,
      acks: identity.acks,
      resume: this.resumeSid,
      received: this.#pushes.total,
    });
    this.#send(CORE_VER, Status.OK, Core.HELLO, HELLO_ID, hello);
  }

  /** Ask the node something; `waiter` comes out in a `Settled`. */
  request(waiter, ver, cmd, payload, reliable, timeoutSeconds, now) {
    this.#checkSendable(ver, cmd, payload);
    const requestId = this.#requests.add(waiter, now, timeoutSeconds);
    this.#send(ver, reliable ? Status.OK : Status.UNRELIABLE, cmd, requestId, payload);
  }

  /** Tell the node something that it does not answer, not even with an error. */
  send(ver, cmd, payload, reliable) {
    this.#checkSendable(ver, cmd, payload);
    this.#send(ver, reliable ? Status.OK : Status.UNRELIABLE, cmd, 0, payload);
  }

  forget(waiter) {
    this.#requests.forget(waiter);
  }

  /** Take one message. Never throws: what breaks the protocol ends the connection. */
  receive(data, now) {
    const outputs = [];
    if (this.state === State.OFFLINE) return outputs;
    this.#pulse.heard(now);
    try {
      for (const frame of readFrames(data)) {
        this.#frameReceived(frame, now, outputs);
        if (this.state === State.OFFLINE) return outputs;
      }
      if (this.state === State.ONLINE && this.#pushes.isDue(now)) this.#acknowledge();
    } catch (error) {
      if (!(error instanceof RemoteProtocolError || error instanceof MalformedPayload)) throw error;
      this.#nodeBrokeProtocol(error, outputs);
    }
    return outputs;
  }

  /** Take something that is no message of the protocol. */
  receivedNonsense(text, closeCode) {
    const outputs = [];
    if (this.state !== State.OFFLINE) this.#nodeBrokeProtocol(new RemoteProtocolError(text, closeCode), outputs);
    return outputs;
  }

  /** The connection ended; `code` when the node said why, `reason` of `LocalReason` when it did not. */
  linkLost(code, reason, text) {
    const outputs = [];
    if (this.state !== State.OFFLINE) this.#over(code, reason, text, outputs);
    return outputs;
  }

  /** Say GOODBYE and end the session; nothing is kept for a resume. */
  leave() {
    const outputs = [];
    this.#sid = "";
    if (this.state === State.OFFLINE) return outputs;
    const isOnline = this.state === State.ONLINE;
    this.#end(null, CLOSED_HERE, outputs);
    if (isOnline) {
      outputs.push(new Disconnected(null, LocalReason.CLOSED, CLOSED_HERE, false));
      this.#send(CORE_VER, Status.OK, Core.GOODBYE, 0, EMPTY);
    }
    return outputs;
  }

  /** The page was asleep, or the network changed: ask the node whether it is still there. */
  wake(now) {
    if (this.state === State.ONLINE && this.#pulse.wake(now)) this.#probe();
  }

  /** Return the frames that wait to be written, joined to messages. */
  dataToSend(now) {
    const frames = this.#outgoing;
    if (frames.length === 0) return [];
    this.#clearOutgoing();
    this.#pulse.sent(now);
    const messages = [];
    for (let first = 0; first < frames.length; ) {
      let size = frames[first].length;
      let end = first + 1;
      while (end < frames.length && size + frames[end].length <= GATHER_BYTES) size += frames[end++].length;
      messages.push(end - first === 1 ? frames[first] : joined(frames.slice(first, end), size));
      first = end;
    }
    return messages;
  }

  /** When `deadlinePassed` has to be called at the latest; null = nothing is waited for. */
  nextDeadline() {
    if (this.state === State.OFFLINE) return null;
    if (this.state === State.SIGNING_IN) return this.#signInBy;
    const deadlines = [this.#pulse.probeAt, this.#pulse.deadAt];
    if (this.#pushes.dueAt !== null) deadlines.push(this.#pushes.dueAt);
    if (this.#requests.nextDeadline !== null) deadlines.push(this.#requests.nextDeadline);
    return Math.min(...deadlines);
  }

  /** Do what is due at `now`; nothing when nothing is. */
  deadlinePassed(now) {
    const outputs = [];
    if (this.state === State.SIGNING_IN) {
      if (now >= this.#signInBy) this.#over(null, LocalReason.SILENT, "the node does not answer", outputs);
    } else if (this.state === State.ONLINE) {
      if (now >= this.#pulse.deadAt) {
        const seconds = (now - this.#pulse.heardAt).toFixed(1);
        this.#over(null, LocalReason.SILENT, `nothing was heard for ${seconds} seconds`, outputs);
        return outputs;
      }
      outputs.push(...this.#requests.expire(now));
      if (this.#pushes.isDue(now)) this.#acknowledge();
      if (now >= this.#pulse.probeAt) {
        this.#pulse.probed(now);
        this.#probe();
      }
    }
    return outputs;
  }

  #probe() {
    this.#send(CORE_VER, Status.UNRELIABLE, Core.PING, PROBE_ID, EMPTY);
  }

  #acknowledge() {
    this.#send(CORE_VER, Status.OK, Core.ACK, 0, this.#pushes.acknowledge());
  }

  #send(ver, status, cmd, requestId, payload) {
    const frame = encodeFrame(ver, status, cmd, requestId, payload);
    this.#outgoing.push(frame);
    this.#outgoingBytes += frame.length;
  }

  #clearOutgoing() {
    this.#outgoing = [];
    this.#outgoingBytes = 0;
  }

  #checkSendable(ver, cmd, payload) {
    checkInteger(ver, 255, "ver");
    checkInteger(cmd, 65535, "cmd");
    if (this.state !== State.ONLINE) throw new NotConnected();
    if (payload.length > this.#maxPayloadBytes) {
      throw new MessageTooLarge(`payload of ${payload.length} bytes, the node takes ${this.#maxPayloadBytes}`);
    }
  }

  #frameReceived(frame, now, outputs) {
    if (frame.status !== Status.PUSH) this.#responseReceived(frame, now, outputs);
    else if (frame.ver !== CORE_VER) this.#pushReceived(frame, now, outputs);
    else if (frame.cmd === Core.PING) this.#send(CORE_VER, Status.UNRELIABLE, Core.PONG, 0, frame.payload);
    else if (frame.cmd === Core.GOODBYE) {
      const { code, text } = decodeError(frame.payload);
      this.#over(code, LocalReason.BROKEN, text, outputs);
    }
  }

  #pushReceived(frame, now, outputs) {
    if (this.state !== State.ONLINE) throw new RemoteProtocolError("a push before the answer to HELLO");
    // Also when it cannot be read: a resume must not bring it again and again.
    if (this.#identity.acks) this.#pushes.add(HEADER_BYTES + frame.payload.length, now);
    outputs.push(decodePush(frame.ver, frame.cmd, frame.payload));
  }

  #responseReceived(frame, now, outputs) {
    if (frame.requestId === HELLO_ID) {
      this.#helloAnswered(frame, now, outputs);
    } else if (frame.requestId === PROBE_ID) {
      this.#pulse.answered();
    } else {
      const settled = this.#requests.answered(frame);
      if (settled !== null) outputs.push(settled);
    }
  }

  #helloAnswered(frame, now, outputs) {
    if (this.state !== State.SIGNING_IN) return;
    if (frame.status === Status.OK) {
      this.#welcomed(decodeWelcome(frame.payload), now, outputs);
      return;
    }
    const { code, text } = decodeError(frame.payload);
    this.#end(null, text, outputs);
    const comesBack = frame.status === Status.ERROR || code === ErrorCode.RATE_LIMITED;
    outputs.push(new SignInFailed(null, text, true, comesBack && this.#identity.reconnect));
  }

  #welcomed(welcome, now, outputs) {
    this.#maxPayloadBytes = welcome.max_payload_bytes;
    this.#pulse = new Pulse(now, welcome.heartbeat_seconds, this.#identity.wakeSeconds);
    // After a resume the node goes on from the count that it was told, recovered or not.
    if (!welcome.resumed) this.#pushes.restart();
    this.#sid = welcome.sid;
    this.state = State.ONLINE;
    outputs.push(new Connected(welcome.user, welcome.node, welcome.sid, welcome.resumed, welcome.recovered));
  }

  #nodeBrokeProtocol(error, outputs) {
    const text = `the node does not follow the protocol: ${error.message}`;
    this.#over(null, LocalReason.NODE_BROKE_PROTOCOL, text, outputs);
    this.wireCloseCode = error.closeCode ?? CloseCode.PROTOCOL_ERROR;
  }

  /** The connection is of no use any more. */
  #over(code, localReason, text, outputs) {
    const isOnline = this.state === State.ONLINE;
    const willRetry = this.#identity.reconnect && !isStayAway(code);
    if (isStayAway(code)) this.#sid = "";
    this.#end(code, text, outputs);
    if (isOnline) outputs.push(new Disconnected(code, reasonOf(code, localReason), text, willRetry));
    else outputs.push(new SignInFailed(code, text, code !== null, willRetry));
  }

  #end(code, text, outputs) {
    this.state = State.OFFLINE;
    this.#clearOutgoing();
    outputs.push(...this.#requests.failAll(() => new ConnectionLost(code, text)));
  }
}

const joined = (parts, size) => {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
};

/**
 * How long to wait before the next try. Full jitter: uniform between 0 and min(cap, base * 2^n), so that many who were
 * cut off together do not come back together.
 */
class Backoff {
  #base;
  #cap;
  #random;
  #tries = 0;

  constructor(baseSeconds, capSeconds, random) {
    if (!(baseSeconds > 0 && baseSeconds <= capSeconds)) {
      throw new RangeError(`base ${baseSeconds} and cap ${capSeconds}: 0 < base <= cap is needed`);
    }
    this.#base = baseSeconds;
    this.#cap = capSeconds;
    this.#random = random;
  }

  nextDelay() {
    const longest = Math.min(this.#cap, this.#base * 2 ** Math.min(this.#tries, 64));
    this.#tries += 1;
    return this.#random() * longest;
  }

  succeeded() {
    this.#tries = 0;
  }
}

/** Browsers do not tell which of it was so. */
const NOT_OPENED = "no node there, or it does not take pages of this origin (allowed_origins)";

/** One WebSocket. `ears` hear what happens until `drop`; after that nothing. */
class Link {
  #socket;
  #ears;
  #isOpen = false;
  #closed;

  constructor(WebSocketClass, url, ears) {
    this.#ears = ears;
    const socket = new WebSocketClass(url);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    this.#closed = new Promise((resolve) => {
      socket.onopen = () => {
        this.#isOpen = true;
        this.#ears?.opened();
      };
      socket.onmessage = (event) => this.#ears?.received(event.data);
      socket.onerror = () => {
        // Some programs' WebSockets tell of a connection that does not open by this alone.
        if (!this.#isOpen) this.#lost(resolve, null, NOT_OPENED);
      };
      socket.onclose = (event) => {
        // 1005 and 1006 never came over the wire: they are the local view of a connection without a close frame.
        const code = event.wasClean && event.code !== 1005 && event.code !== 1006 ? event.code : null;
        this.#lost(resolve, code, event.reason || (this.#isOpen ? "the connection broke" : NOT_OPENED));
      };
    });
  }

  #lost(resolve, code, text) {
    resolve();
    const ears = this.#ears;
    this.#ears = null;
    ears?.lost(code, text);
  }

  get bufferedBytes() {
    return this.#socket.bufferedAmount;
  }

  write(messages) {
    try {
      for (const message of messages) this.#socket.send(message);
    } catch {
      // It is closing; that will be told by itself.
    }
  }

  /** Close, and hear nothing more. Resolves when it is closed. */
  drop(code, text) {
    this.#ears = null;
    try {
      this.#socket.close(code, text.slice(0, 40));
    } catch {
      // Not even a reason could be given.
      this.#socket.close();
    }
    return this.#closed;
  }
}

/** A timer that is later than this: the page was asleep, and what has arrived meanwhile must be heard first. */
const LATE_SECONDS = 2;
const LISTEN_SECONDS = 0.25;

/** Timers hold no more than 2^31 ms, and nothing here need wait as long. */
const MAX_TIMER_SECONDS = 86400;

/** How long `close` waits until what was written is out. */
const CLOSE_SECONDS = 2;

/** A connection that was up for so long was a sound one: the next break begins with short delays again. */
const STEADY_SECONDS = 5;

/** A page that wakes up tries at once, but not more often than this. */
const MIN_RETRY_SECONDS = 1;

/** As many times the limit may wait before the connection is of no use: what comes on top are answers of ours. */
const HOPELESS_LIMITS = 2;

/** Below this share of the limit the connection has caught up. No event tells, so it is looked at every so often. */
const DRAINED_SHARE = 0.25;
const DRAIN_LOOK_SECONDS = 0.02;

/**
 * Keeps one signed-in connection: opens links, drives the machine and its times, comes back after a break.
 *
 *              connect           link opened, HELLO answered
 *     IDLE ----------------> CONNECTING -------------------> ONLINE
 *       ^                      |    ^                           |
 *       |       gives up, or   |    | after a delay, or the     | broken
 *       +----- close ----------+    | page woke up              |
 *                              +-> WAITING <--------------------+
 */
class Connector {
  state = "idle";
  #place;
  #options;
  #host;
  #tell;
  #machine;
  #backoff;
  #pageWatch = null;
  #link = null;
  #attempt = null;
  #connecting = [];
  #connected = null;
  #wasOnline = false;
  #onlineSince = 0;
  #triedAt = -Infinity;
  #isSuspended = false;
  #isFlushing = false;
  #timer = null;
  #timerDueAt = 0;
  #wasLate = false;
  #retryTimer = null;
  #draining = [];
  #drainTimer = null;

  constructor(place, options, host, tell) {
    this.#place = place;
    this.#options = options;
    this.#host = host;
    this.#tell = tell;
    const identity = {
      user: options.user,
      clientName: options.clientName,
      acks: options.acks,
      resume: options.resume,
      reconnect: options.reconnect,
      signInSeconds: options.connectTimeoutSeconds,
      wakeSeconds: options.wakeTimeoutSeconds,
    };
    this.#machine = new ClientMachine(identity, options.maxPendingRequests);
    this.#backoff = new Backoff(options.retryBaseSeconds, options.retryCapSeconds, host.random);
  }

  connect() {
    if (this.state === "online") return Promise.resolve(this.#connected);
    const done = new Promise((resolve, reject) => this.#connecting.push({ resolve, reject }));
    if (this.state === "idle") {
      this.#backoff.succeeded();
      this.#pageWatch = watchPage(this.#host, {
        woke: () => this.#woke(),
        hidden: () => this.#suspend(),
      });
      this.#try();
    }
    return done;
  }

  close() {
    // What was sent in this turn goes out first; leaving forgets it.
    this.#flush();
    const outputs = this.#machine.leave();
    this.#flush();
    const closed = this.#dropLink(1000, "");
    // Between two connections the last Disconnected has promised a return.
    const isBetween = this.#wasOnline && this.state !== "online";
    this.#beIdle(new NotConnected(CLOSED_HERE));
    this.#take(outputs);
    if (isBetween) this.#tell(new Disconnected(null, LocalReason.CLOSED, CLOSED_HERE, false));
    let timer = null;
    const late = new Promise((resolve) => {
      timer = this.#host.setTimeout(resolve, CLOSE_SECONDS * 1000);
    });
    return Promise.race([closed, late]).then(() => this.#host.clearTimeout(timer));
  }

  request(ver, cmd, payload, { reliable = true, timeoutSeconds = undefined, signal = undefined } = {}) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) throw signal.reason;
      const seconds = timeoutSeconds ?? this.#options.requestTimeoutSeconds;
      if (!(seconds > 0)) throw new RangeError("timeoutSeconds must be above 0");
      const abort = () => {
        this.#machine.forget(waiter);
        reject(signal.reason);
      };
      const settle = (finish) => (value) => {
        signal?.removeEventListener("abort", abort);
        finish(value);
      };
      const waiter = { resolve: settle(resolve), reject: settle(reject) };
      this.#ask(waiter, ver, cmd, payload, reliable, seconds);
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  /** As `request`, for a built-in command whose waiter must be told before the pushes behind the answer. */
  ask(waiter, cmd, payload) {
    this.#ask(waiter, BUILT_IN_VER, cmd, payload, true, this.#options.requestTimeoutSeconds);
  }

  #ask(waiter, ver, cmd, payload, reliable, seconds) {
    this.#checkUnsent(payload.length);
    this.#machine.request(waiter, ver, cmd, payload, reliable, seconds, this.#host.now());
    this.#write();
    this.#setTimer();
  }

  send(ver, cmd, payload, reliable) {
    this.#checkUnsent(payload.length);
    this.#machine.send(ver, cmd, payload, reliable);
    this.#write();
  }

  whenDrained() {
    if (this.state !== "online") return Promise.reject(new NotConnected());
    return new Promise((resolve, reject) => {
      this.#draining.push({ resolve, reject });
      this.#lookDrained();
    });
  }

  /** Bytes that were sent and are not out yet. */
  get unsentBytes() {
    return this.#machine.outgoingBytes + (this.#link === null ? 0 : this.#link.bufferedBytes);
  }

  #try() {
    this.state = "connecting";
    this.#clearRetry();
    this.#triedAt = this.#host.now();
    const attempt = { timer: null, abort: new AbortController() };
    this.#attempt = attempt;
    const seconds = this.#options.connectTimeoutSeconds;
    const failed = (error) => this.#attemptFailed(attempt, error);
    attempt.timer = this.#host.setTimeout(() => failed(`no answer within ${seconds} seconds`), seconds * 1000);
    this.#open(attempt).catch(failed);
  }

  async #open(attempt) {
    const source = this.#options.token;
    const token = (typeof source === "function" ? await source() : source) ?? null;
    if (token !== null && typeof token !== "string") throw new TypeError("the token is no string");
    const url = await this.#place.find(token, attempt.abort.signal);
    if (attempt !== this.#attempt) return;
    const WebSocketClass = this.#options.WebSocket ?? this.#host.WebSocket;
    if (WebSocketClass === undefined) {
      throw new TypeError("there is no WebSocket here: give one as options.WebSocket, that of the package ws for instance");
    }
    const link = new Link(WebSocketClass, url, {
      opened: () => this.#opened(attempt, token),
      received: (data) => this.#received(data),
      lost: (code, text) => this.#lost(attempt, code, text),
    });
    this.#link = link;
  }

  #opened(attempt, token) {
    this.#endAttempt(attempt);
    this.#machine.linkOpened(token, this.#host.now());
    this.#flush();
    this.#setTimer();
  }

  #lost(attempt, code, text) {
    if (attempt === this.#attempt) {
      const error = isStayAway(code) ? new SignInRefused(this.#place.url, code, text) : text;
      this.#attemptFailed(attempt, error);
    } else {
      this.#take(this.#machine.linkLost(code, LocalReason.BROKEN, text));
    }
  }

  #endAttempt(attempt) {
    this.#host.clearTimeout(attempt.timer);
    if (attempt === this.#attempt) this.#attempt = null;
  }

  #attemptFailed(attempt, error) {
    // Closed meanwhile, or over already; what the abandoned attempt says is of no interest.
    if (attempt !== this.#attempt) return;
    this.#endAttempt(attempt);
    attempt.abort.abort();
    let failure = error;
    if (!(error instanceof ConnectFailed)) {
      const isText = typeof error === "string";
      const detail = isText ? error : String(error?.message ?? error);
      failure = new ConnectFailed(this.#place.url, detail, isText ? undefined : error);
    }
    this.#failed(failure, this.#options.reconnect && !(failure instanceof SignInRefused));
  }

  #failed(error, mayRetry) {
    this.#dropLink(this.#machine.wireCloseCode, "");
    if (mayRetry && (this.#wasOnline || this.#options.retryFirst)) {
      this.#wait();
      return;
    }
    const wasOnline = this.#wasOnline;
    this.#beIdle(error);
    if (wasOnline) {
      // The last Disconnected promised a return that does not happen.
      const code = error.closeCode ?? null;
      this.#tell(new Disconnected(code, reasonOf(code, LocalReason.GAVE_UP), error.detail, false));
    }
  }

  #received(data) {
    const now = this.#host.now();
    const isBinary = typeof data !== "string" && typeof data?.byteLength === "number";
    let outputs;
    if (!isBinary) {
      outputs = this.#machine.receivedNonsense("a message that is not binary", CloseCode.PROTOCOL_ERROR);
    } else if (data.byteLength > MAX_MESSAGE_BYTES) {
      outputs = this.#machine.receivedNonsense("a message over 1 MiB", CloseCode.FRAME_TOO_LARGE);
    } else {
      outputs = this.#machine.receive(new Uint8Array(data), now);
    }
    this.#write();
    this.#take(outputs);
    if (this.unsentBytes > HOPELESS_LIMITS * this.#options.maxUnsentBytes) {
      this.#take(this.#machine.linkLost(null, LocalReason.NODE_DOES_NOT_READ, "the node does not read"));
    }
    if (this.#draining.length > 0) this.#lookDrained();
    this.#setTimer();
  }

  #take(outputs) {
    for (const output of outputs) {
      if (output instanceof Settled) {
        if (output.error === null) output.waiter.resolve(output.payload);
        else output.waiter.reject(output.error);
      } else if (output instanceof SignInFailed) {
        const error = output.isRefusal
          ? new SignInRefused(this.#place.url, output.code, output.text)
          : new ConnectFailed(this.#place.url, output.text);
        this.#failed(error, output.willRetry);
      } else if (output instanceof Connected) {
        this.#beOnline(output);
      } else if (output instanceof Disconnected) {
        this.#beOffline(output);
      } else {
        this.#tell(output);
      }
    }
  }

  #beOnline(connected) {
    this.state = "online";
    this.#wasOnline = true;
    this.#connected = connected;
    this.#onlineSince = this.#host.now();
    const connecting = this.#connecting;
    this.#connecting = [];
    this.#tell(connected);
    for (const done of connecting) done.resolve(connected);
  }

  #beOffline(event) {
    if (this.state === "online") {
      if (this.#host.now() - this.#onlineSince >= STEADY_SECONDS) this.#backoff.succeeded();
      this.#dropLink(this.#machine.wireCloseCode, event.code === null ? event.reason : "");
      if (event.willRetry) this.#wait();
      else this.#beIdle(new NotConnected(event.text));
      this.#tell(event);
    } else {
      // A callback for what came just before has closed the client.
      this.#tell(new Disconnected(event.code, event.reason, event.text, false));
    }
  }

  #wait() {
    this.state = "waiting";
    if (this.#isSuspended) return;
    this.#retryTimer = this.#host.setTimeout(() => this.#try(), this.#backoff.nextDelay() * 1000);
  }

  #beIdle(error) {
    this.state = "idle";
    this.#wasOnline = false;
    this.#isSuspended = false;
    const attempt = this.#attempt;
    if (attempt !== null) {
      this.#endAttempt(attempt);
      attempt.abort.abort();
    }
    this.#clearRetry();
    this.#pageWatch?.();
    this.#pageWatch = null;
    const connecting = this.#connecting;
    this.#connecting = [];
    for (const done of connecting) done.reject(error);
  }

  #clearRetry() {
    this.#host.clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
  }

  #dropLink(code, text) {
    this.#connected = null;
    this.#host.clearTimeout(this.#timer);
    this.#timer = null;
    this.#wasLate = false;
    this.#host.clearTimeout(this.#drainTimer);
    this.#drainTimer = null;
    const draining = this.#draining;
    this.#draining = [];
    for (const done of draining) done.reject(new NotConnected());
    const link = this.#link;
    this.#link = null;
    return link === null ? Promise.resolve() : link.drop(code, text);
  }

  #woke() {
    const wasSuspended = this.#isSuspended;
    this.#isSuspended = false;
    if (this.state === "waiting") {
      if (wasSuspended || this.#host.now() - this.#triedAt >= MIN_RETRY_SECONDS) this.#try();
    } else if (this.state === "online") {
      this.#machine.wake(this.#host.now());
      this.#write();
      this.#setTimer();
    }
  }

  /** The page goes where it can come back from; with an open connection browsers would rather throw it away. */
  #suspend() {
    if (this.state === "idle") return;
    this.#isSuspended = true;
    if (this.state === "online") {
      this.#take(this.#machine.linkLost(null, LocalReason.SUSPENDED, "the page is put aside"));
      return;
    }
    const attempt = this.#attempt;
    if (attempt !== null) {
      this.#endAttempt(attempt);
      attempt.abort.abort();
    }
    // Without outputs: whoever waits for `connect` goes on waiting.
    this.#machine.linkLost(null, LocalReason.SUSPENDED, "");
    this.#dropLink(1000, "");
    this.#clearRetry();
    this.state = "waiting";
  }

  #checkUnsent(sizeBytes) {
    const unsent = this.unsentBytes;
    const limit = this.#options.maxUnsentBytes;
    if (unsent > 0 && unsent + sizeBytes > limit) throw new UnsentFull(unsent, limit);
  }

  #lookDrained() {
    if (this.unsentBytes <= DRAINED_SHARE * this.#options.maxUnsentBytes) {
      const draining = this.#draining;
      this.#draining = [];
      for (const done of draining) done.resolve();
    } else if (this.#drainTimer === null) {
      this.#drainTimer = this.#host.setTimeout(() => {
        this.#drainTimer = null;
        this.#lookDrained();
      }, DRAIN_LOOK_SECONDS * 1000);
    }
  }

  /** Send at the end of this turn, together with what else is sent in it. */
  #write() {
    if (this.#isFlushing || this.#machine.outgoingBytes === 0) return;
    this.#isFlushing = true;
    queueMicrotask(() => this.#flush());
  }

  #flush() {
    this.#isFlushing = false;
    if (this.#link !== null) this.#link.write(this.#machine.dataToSend(this.#host.now()));
  }

  #setTimer() {
    const deadline = this.#machine.nextDeadline();
    if (deadline === null) return;
    if (this.#timer !== null) {
      // Waking too early is cheap, and moving the timer for each message is not.
      if (this.#timerDueAt <= deadline) return;
      this.#host.clearTimeout(this.#timer);
    }
    this.#startTimer(deadline);
  }

  #startTimer(deadline) {
    const now = this.#host.now();
    const seconds = Math.min(Math.max(0, deadline - now), MAX_TIMER_SECONDS);
    this.#timerDueAt = now + seconds;
    this.#timer = this.#host.setTimeout(() => this.#timerFired(), Math.ceil(seconds * 1000));
  }

  #timerFired() {
    this.#timer = null;
    const now = this.#host.now();
    if (now - this.#timerDueAt > LATE_SECONDS && !this.#wasLate) {
      this.#wasLate = true;
      this.#machine.wake(now);
      this.#write();
      this.#startTimer(now + LISTEN_SECONDS);
      return;
    }
    this.#wasLate = false;
    const outputs = this.#machine.deadlinePassed(now);
    this.#write();
    this.#take(outputs);
    this.#setTimer();
  }
}

/**
 * Call when the page wakes up or is put aside. Timers of a hidden page run once a minute or not at all.
 * @returns a function that ends it
 */
const watchPage = ({ window, document }, { woke, hidden }) => {
  const added = [];
  const listen = (target, type, callback) => {
    if (typeof target?.addEventListener !== "function") return;
    target.addEventListener(type, callback);
    added.push(() => target.removeEventListener(type, callback));
  };
  listen(window, "online", () => woke());
  listen(window, "pageshow", () => woke());
  listen(window, "pagehide", (event) => {
    if (event.persisted) hidden();
  });
  listen(document, "resume", () => woke());
  listen(document, "visibilitychange", () => {
    if (document.visibilityState === "visible") woke();
  });
  return () => added.forEach((remove) => remove());
};

/** Where the WebSocket of a node is: said by the URL, or asked at its HTTP port. */
class Place {
  #user;
  #options;
  #host;
  #isEndpoint;

  constructor(url, options, host) {
    this.#user = options.user;
    this.#options = options;
    this.#host = host;
    const origin = host.location?.origin;
    let parsed;
    try {
      parsed = new URL(url ?? origin, host.location?.href);
    } catch {
      const hint = url === null ? "no page whose host it could be; give the URL of a node" : `${url} is no URL`;
      throw new TypeError(`cannot tell where the node is: ${hint}`);
    }
    if (!["ws:", "wss:", "http:", "https:"].includes(parsed.protocol)) {
      throw new TypeError(`${parsed.href} is no address of a node: it begins with ws, wss, http or https and ://`);
    }
    if (parsed.username || parsed.password) throw new TypeError("the user is not named in the address");
    this.#isEndpoint = parsed.protocol.startsWith("http");
    if (this.#isEndpoint && options.user === null) {
      throw new TypeError("an http address needs the user: it asks the node where this user is to connect");
    }
    parsed.hash = "";
    if (this.#isEndpoint) parsed.search = "";
    this.url = this.#isEndpoint ? parsed.href.replace(/\/+$/, "") : parsed.href;
  }

  /** Return the URL of the WebSocket. */
  async find(token, signal) {
    if (!this.#isEndpoint) return this.url;
    const fetch = this.#options.fetch ?? this.#host.fetch;
    const type = this.url.startsWith("https") ? "WSS" : "WS";
    const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
    const answer = await fetch(`${this.url}/endpoint/type/${type}/user/${encodeURIComponent(this.#user)}`, {
      headers,
      signal,
      cache: "no-store",
      credentials: "omit",
    });
    const text = (await answer.text()).slice(0, MAX_ENDPOINT_ANSWER);
    const detail = `HTTP status ${answer.status}: ${text.slice(0, 200).trim()}`;
    if (answer.status === 401 || answer.status === 403) throw new SignInRefused(this.url, null, detail);
    if (answer.status !== 200) throw new ConnectFailed(this.url, detail);
    return this.#read(text);
  }

  #read(text) {
    try {
      const { serverType, serverHost, serverPort } = JSON.parse(text);
      if (!["WS", "WSS"].includes(serverType) || typeof serverHost !== "string") throw new TypeError("no place in it");
      const host = serverHost.includes(":") ? `[${serverHost}]` : serverHost;
      return new URL(`${serverType.toLowerCase()}://${host}:${checkInteger(serverPort, 65535, "serverPort")}/`).href;
    } catch (error) {
      throw new ConnectFailed(this.url, `the endpoint call: ${error.message}`, error);
    }
  }
}

/** A node that was asked and could not say is asked again after this, and nothing else before. */
const AGAIN_SECONDS = 1;

/** Groups that are asked for at one time after a break: nodes close connections that are refused too much. */
const MAX_ASKING = 16;

/** What changed in groups while lists of their members are on their way to the program. More is told at once. */
const MAX_HELD = 1000;

/** Refusals that say nothing about the group. */
const PASSING = [TimedOut, RateLimited, NodeDraining, NodeOffline, TooManyPending, UnsentFull];

const isPassing = (error) => PASSING.some((Class) => error instanceof Class);

/** How far the client has come in a group that it follows. Epoch and offset 0: not known. */
class GroupPlace {
  /** What came after the place is not known yet: the node is asked, or will be. */
  isBehind = false;
  /** The place is another one than that which the answer will speak of: something was told since it was asked. */
  hasStrayed = false;
  /** What was missed lies before the place from which the node is asked next. */
  hasMissed = false;
  /** The program leaves the group; who joins anew begins anew. */
  isLeaving = false;
  /** A join was answered; until then a refusal ends the place. */
  isMember = false;
  /** Requests on their way. */
  asking = 0;

  constructor(epoch, offset) {
    this.epoch = epoch;
    this.offset = offset;
  }
}

/**
 * Groups that the client follows across breaks, each message told once, and who is in groups that it watches. After a
 * break that lost something the node is asked, and the program is told how that went.
 *
 * The node's answers are heard here before the pushes behind them: promises would come too late.
 */
class GroupRecovery {
  #host;
  #ask;
  #tell;
  #ownId = "";
  /** As many as the node lets a user be in. */
  #places = new Map();
  /** Groups whose presence is watched: whether the node has to be asked again, and is. */
  #watches = new Map();
  #asking = 0;
  #retry = null;
  #held = [];
  #heldTimer = null;

  /** @param ask `ask(waiter, cmd, payload)`, which throws what keeps it from being sent */
  constructor(host, ask, tell) {
    this.#host = host;
    this.#ask = ask;
    this.#tell = tell;
  }

  /** Join and follow a group; from where the client is when no position is given and it follows the group already. */
  join(groupId, message, position) {
    return new Promise((resolve, reject) => {
      const before = this.#places.get(groupId);
      const isKept = position === null && before !== undefined && !before.isLeaving;
      const place = isKept ? before : new GroupPlace(...(position ?? [0n, 0]));
      const payload = encodeAskRecover(groupId, place.epoch, place.offset, message);
      if (!isKept) {
        this.forget(groupId, false);
        this.#places.set(groupId, place);
      }
      const failed = (error) => {
        if (this.#places.get(groupId) === place) {
          // Another join, made meanwhile, may still be answered.
          if (!place.isMember && place.asking === 0) this.forget(groupId);
          // The message of this call is at fault, not the question.
          else if (place.isMember && error instanceof MessageTooLarge) this.#catchUp();
          else if (place.isMember) this.#notRecovered(groupId, place, error);
        }
        reject(error);
      };
      this.#recover(groupId, place, payload, place.epoch !== 0n, { resolve, reject: failed });
    });
  }

  /** The program leaves; call what is returned when it has left. */
  leaving(groupId) {
    const place = this.#places.get(groupId);
    if (place !== undefined) place.isLeaving = true;
    return () => {
      if (this.#places.get(groupId) === place) this.forget(groupId);
    };
  }

  /** The program stays after all. */
  stays(groupId) {
    const place = this.#places.get(groupId);
    if (place === undefined) return;
    place.isLeaving = false;
    this.#catchUp();
  }

  forget(groupId, isWatchOver = true) {
    this.#places.delete(groupId);
    if (isWatchOver) this.#watches.delete(groupId);
  }

  /** Return the epoch and offset of the last message told; null: not known. */
  position(groupId) {
    const place = this.#places.get(groupId);
    return place === undefined || place.epoch === 0n ? null : { epoch: String(place.epoch), offset: place.offset };
  }

  /** List members. What changes behind the list is told when the program has it. */
  presence(groupId, settings) {
    return new Promise((resolve, reject) => {
      const payload = encodeAskPresence(groupId, settings);
      if (settings.watch === false) this.#watches.delete(groupId);
      const answered = (presence) => {
        if (settings.watch) this.#watches.set(groupId, { isStale: false, isAsked: false });
        this.#heldTimer ??= this.#host.setTimeout(() => this.#release(), 0);
        resolve(presence);
      };
      this.#askNow(Command.GROUP_PRESENCE, payload, decodePresence, { resolve: answered, reject });
    });
  }

  /** Take an event; the program is told what comes of it. */
  heard(event) {
    if (event instanceof GroupLogged) {
      this.#logged(event.push);
    } else if (event instanceof GroupPresenceChanged && this.#heldTimer !== null && this.#held.length < MAX_HELD) {
      this.#held.push(event);
    } else if (event instanceof GroupMessageReceived && this.#isSuperfluous(event)) {
      // It comes again, with its offset.
    } else {
      if (event instanceof Disconnected || this.#held.length === MAX_HELD) this.#release();
      if (event instanceof Connected) this.#ownId = event.userId;
      this.#tell(event);
      if (event instanceof Connected) this.#connected(!(event.resumed && event.recovered));
      if (event instanceof Disconnected) this.#disconnected(event);
    }
  }

  #isSuperfluous(event) {
    const place = this.#places.get(event.groupId);
    return place !== undefined && place.isBehind && place.epoch !== 0n;
  }

  #connected(isLost) {
    if (isLost) {
      for (const place of this.#places.values()) place.isBehind = true;
      for (const watch of this.#watches.values()) watch.isStale = true;
    }
    this.#catchUp();
  }

  #disconnected(event) {
    // The next connection asks.
    this.#host.clearTimeout(this.#retry);
    this.#retry = null;
    if (!event.willRetry) {
      this.#places.clear();
      this.#watches.clear();
    }
  }

  /** Ask for what is not known, as much of it as may be asked at this moment. */
  #catchUp() {
    const mayAsk = () => this.#retry === null && this.#asking < MAX_ASKING;
    for (const [groupId, place] of this.#places) {
      if (!mayAsk()) return;
      // One that is left would be joined again.
      if (place.isBehind && place.asking === 0 && !place.isLeaving) this.#recoverAgain(groupId, place);
    }
    for (const [groupId, watch] of this.#watches) {
      if (!mayAsk()) return;
      // Where the client is no member yet it would be refused.
      const isReady = !this.#places.get(groupId)?.isBehind;
      if (watch.isStale && !watch.isAsked && isReady) this.#watchAgain(groupId, watch);
    }
  }

  #failed(error, giveUp) {
    if (isPassing(error)) {
      this.#retry ??= this.#host.setTimeout(() => {
        this.#retry = null;
        this.#catchUp();
      }, AGAIN_SECONDS * 1000);
    } else if (!(error instanceof DeliveryError)) {
      giveUp();
      this.#catchUp();
    }
  }

  #recover(groupId, place, payload, isTold, waiter) {
    place.isBehind = true;
    if (place.asking === 0) place.hasStrayed = false;
    place.asking += 1;
    const reject = (error) => {
      place.asking -= 1;
      waiter.reject(error);
    };
    const resolve = (answer) => {
      place.asking -= 1;
      waiter.resolve();
      if (this.#places.get(groupId) === place) this.#recovered(groupId, place, answer, isTold);
      this.#catchUp();
    };
    this.#askNow(Command.GROUP_RECOVER, payload, decodeRecovered, { resolve, reject });
  }

  #recovered(groupId, place, answer, isTold) {
    // What was told without its offset may be among what is given back: rather none of that than something twice.
    const isPassedOver = answer.recovered && place.hasStrayed;
    const isWhole = answer.recovered && !isPassedOver && !place.hasMissed;
    place.isMember = true;
    place.isBehind = false;
    place.hasMissed = false;
    if (!answer.recovered || isPassedOver) [place.epoch, place.offset] = [answer.epoch, answer.offset];
    if (isTold || isPassedOver) this.#tell(new GroupRecovered(groupId, isWhole));
  }

  #recoverAgain(groupId, place) {
    const payload = encodeAskRecover(groupId, place.epoch, place.offset);
    this.#asking += 1;
    const resolve = () => {
      this.#asking -= 1;
    };
    const reject = (error) => {
      this.#asking -= 1;
      this.#notRecovered(groupId, place, error);
    };
    this.#recover(groupId, place, payload, true, { resolve, reject });
  }

  #notRecovered(groupId, place, error) {
    this.#failed(error, () => {
      if (this.#places.get(groupId) !== place) return;
      this.forget(groupId);
      this.#tell(new GroupRecovered(groupId, false, error));
    });
  }

  #watchAgain(groupId, watch) {
    const isOver = () => this.#watches.get(groupId) !== watch;
    this.#asking += 1;
    watch.isAsked = true;
    const ended = () => {
      this.#asking -= 1;
      watch.isAsked = false;
    };
    const resolve = ({ count }) => {
      ended();
      watch.isStale = false;
      this.#catchUp();
      if (!isOver()) this.#tell(new GroupPresenceChanged(groupId, count));
    };
    const reject = (error) => {
      ended();
      this.#failed(error, () => {
        if (!isOver()) this.#watches.delete(groupId);
      });
    };
    const payload = encodeAskPresence(groupId, { limit: 0, watch: true });
    this.#askNow(Command.GROUP_PRESENCE, payload, decodePresence, { resolve, reject });
  }

  /** Ask; what keeps it from being sent or the answer from being read is told as a refusal is. */
  #askNow(cmd, payload, decode, { resolve, reject }) {
    const answered = (answer) => {
      let told;
      try {
        told = readAnswer(answer, decode);
      } catch (error) {
        reject(error);
        return;
      }
      resolve(told);
    };
    try {
      this.#ask({ resolve: answered, reject }, cmd, payload);
    } catch (error) {
      reject(error);
    }
  }

  /** Take a message with its place: tell it once, and in order. */
  #logged(push) {
    const { groupId, epoch, offset } = push;
    const place = this.#places.get(groupId);
    let isCut = false;
    if (place !== undefined) {
      if (epoch !== 0n && epoch === place.epoch) {
        if (offset <= place.offset) return;
        if (offset > place.offset + 1) {
          place.isBehind = true;
          this.#catchUp();
          return;
        }
      } else if (epoch !== place.epoch) {
        place.hasStrayed = true;
        const wasKnown = place.epoch !== 0n;
        if (wasKnown && place.isBehind) place.hasMissed = true;
        isCut = wasKnown && !place.isBehind && epoch !== 0n;
      }
      [place.epoch, place.offset] = [epoch, offset];
    }
    if (isCut) this.#tell(new GroupRecovered(groupId, false));
    if (push.sender === this.#ownId) return;
    const isMessage = push.ver === BUILT_IN_VER && push.cmd === Command.GROUP_BROADCAST;
    if (isMessage) this.#tell(new GroupMessageReceived(groupId, push.sender, push.message, offset));
    else this.#tell(new PushReceived(push.ver, push.cmd, push.message));
  }

  #release() {
    this.#host.clearTimeout(this.#heldTimer);
    this.#heldTimer = null;
    const held = this.#held;
    this.#held = [];
    for (const event of held) this.#tell(event);
  }
}

/** Read an answer. As it is, an error would read as if the request had been at fault. */
const readAnswer = (answer, decode) => {
  try {
    return decode(answer);
  } catch (error) {
    throw new RemoteProtocolError(`the answer cannot be read: ${error.message}`);
  }
};

/** Return epoch and offset of a position that a program gave; null: it has none. */
const readPosition = (position) => {
  if (position === true || position === null) return null;
  const { epoch, offset } = position;
  if (typeof epoch !== "string" || !/^\d{1,20}$/.test(epoch)) throw new TypeError("recover is true or a position");
  return [BigInt(epoch), offset];
};

/** Callbacks by class of event. */
class Listeners {
  #entries = [];
  /** For each class that was told of: who wants it. Made anew when callbacks change. */
  #byClass = new Map();

  add(what, callback) {
    const wanted = eventClass(what);
    if (typeof callback !== "function") throw new TypeError("the callback is no function");
    const entry = { wanted, callback, isOver: false };
    this.#entries.push(entry);
    this.#byClass.clear();
    return () => {
      entry.isOver = true;
      this.#entries = this.#entries.filter((other) => other !== entry);
      this.#byClass.clear();
    };
  }

  tell(event) {
    let entries = this.#byClass.get(event.constructor);
    if (entries === undefined) {
      entries = this.#entries.filter(({ wanted }) => event instanceof wanted);
      this.#byClass.set(event.constructor, entries);
    }
    for (const { callback, isOver } of entries) {
      // An earlier one has ended it.
      if (isOver) continue;
      // The program's bug must not end its connection, nor keep the event from others.
      const failed = (error) => console.error(`meshrelay: a callback for ${event.name} failed:`, error);
      try {
        const result = callback(event);
        if (typeof result?.then === "function") result.then(undefined, failed);
      } catch (error) {
        failed(error);
      }
    }
  }
}

const eventClass = (what) => {
  const Class = typeof what === "string" && Object.hasOwn(EVENT_CLASSES, what) ? EVENT_CLASSES[what] : what;
  if (typeof Class === "function" && (Class === MeshEvent || Class.prototype instanceof MeshEvent)) return Class;
  throw new TypeError(`there is no event ${String(what)}: known are ${Object.keys(EVENT_CLASSES).join(", ")}`);
};

/** What a stream does with an event when its program does not read as fast as events come. */
export const WhenFull = Object.freeze({ DROP_OLDEST: "drop-oldest", DROP_NEWEST: "drop-newest", END: "end" });

/** Events in the order in which they came, for `for await`. Ends when the client is closed for good. */
export class EventStream {
  /** Events that were thrown away. */
  dropped = 0;
  #maxEvents;
  #whenFull;
  #events = [];
  #first = 0;
  #readers = [];
  #isOver = false;
  #onEnd;

  constructor(maxEvents, whenFull, onEnd = () => {}) {
    if (!Number.isInteger(maxEvents) || maxEvents < 1) throw new RangeError("maxEvents must be 1 or more");
    if (!Object.values(WhenFull).includes(whenFull)) throw new TypeError(`whenFull cannot be ${String(whenFull)}`);
    this.#maxEvents = maxEvents;
    this.#whenFull = whenFull;
    this.#onEnd = onEnd;
  }

  /** Events that wait to be read. */
  get size() {
    return this.#events.length - this.#first;
  }

  /** One more event. */
  put(event) {
    if (this.#isOver) return;
    const reader = this.#readers.shift();
    if (reader !== undefined) {
      reader({ value: event, done: false });
      return;
    }
    if (this.size >= this.#maxEvents) {
      this.dropped += 1;
      if (this.#whenFull === WhenFull.END) this.end();
      if (this.#whenFull !== WhenFull.DROP_OLDEST) return;
      this.#shift();
    }
    this.#events.push(event);
  }

  /** Nothing more comes. What waits is still read. */
  end() {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onEnd();
    const readers = this.#readers;
    this.#readers = [];
    for (const reader of readers) reader({ value: undefined, done: true });
  }

  next() {
    if (this.size > 0) return Promise.resolve({ value: this.#shift(), done: false });
    if (this.#isOver) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  /** Called when the program leaves its loop. */
  return(value = undefined) {
    this.end();
    this.#events = [];
    this.#first = 0;
    return Promise.resolve({ value, done: true });
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  #shift() {
    const event = this.#events[this.#first];
    this.#events[this.#first] = undefined;
    this.#first += 1;
    // Moving the rest for each event would cost the square of what waits.
    if (this.#first >= 64 && this.#first * 2 >= this.#events.length) {
      this.#events.splice(0, this.#first);
      this.#first = 0;
    }
    return event;
  }
}

const DEFAULT_OPTIONS = Object.freeze({
  user: null,
  token: null,
  acks: true,
  resume: true,
  reconnect: true,
  retryFirst: false,
  connectTimeoutSeconds: 10,
  requestTimeoutSeconds: 10,
  retryBaseSeconds: 0.5,
  retryCapSeconds: 30,
  wakeTimeoutSeconds: 5,
  maxPendingRequests: 4096,
  maxUnsentBytes: 1048576,
  clientName: `meshrelay-js/${VERSION}`,
  WebSocket: undefined,
  fetch: undefined,
});

const readOptions = (given) => {
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(DEFAULT_OPTIONS, name)) {
      throw new TypeError(`there is no option ${name}: known are ${Object.keys(DEFAULT_OPTIONS).join(", ")}`);
    }
  }
  const options = { ...DEFAULT_OPTIONS };
  for (const [name, value] of Object.entries(given)) if (value !== undefined) options[name] = value;
  if (options.user !== null) checkUserId(options.user);
  for (const name of Object.keys(options)) {
    const isPositive = name.endsWith("Seconds") || name.startsWith("max");
    if (isPositive && !(Number.isFinite(options[name]) && options[name] > 0)) {
      throw new RangeError(`${name} is ${String(options[name])}, it must be a number above 0`);
    }
  }
  return options;
};

/** What the client needs of the world around it. */
const defaultHost = () => ({
  now: () => performance.now() / 1000,
  setTimeout: (callback, milliseconds) => setTimeout(callback, milliseconds),
  clearTimeout: (timer) => clearTimeout(timer),
  random: Math.random,
  WebSocket: globalThis.WebSocket,
  fetch: (...given) => globalThis.fetch(...given),
  window: globalThis,
  document: globalThis.document,
  location: globalThis.location,
});

const PING_BYTES = 8;

const isSame = (left, right) => left.length === right.length && left.every((byte, at) => byte === right[at]);

/**
 * One user at a node. Every method that returns a promise rejects with a `CommandError` when the node refuses, and with
 * a `DeliveryError` when the way to it fails. A request whose connection breaks rejects with `ConnectionLost` and is
 * not sent again: the node may have acted upon it.
 */
export class Client {
  #connector;
  #recovery;
  #host;
  #listeners = new Listeners();
  #streams = new Set();

  /**
   * @param {string | null} [url] `ws://host:port/` or `wss://`: the WebSocket of a node. `http://host:port` or
   *   `https://`: a node's HTTP port, which is asked at each connect for the least loaded node. None: the page's own
   *   host, asked in the same way.
   * @param {object} [options] see meshrelay.d.ts
   * @param {object} [host] clock, timers and so on, for tests
   */
  constructor(url = null, options = {}, host = {}) {
    const isUrl = url === null || typeof url === "string" || url instanceof URL;
    const given = readOptions(isUrl ? options : url);
    this.#host = { ...defaultHost(), ...host };
    const place = new Place(isUrl && url !== null ? String(url) : null, given, this.#host);
    this.#connector = new Connector(place, given, this.#host, (event) => this.#recovery.heard(event));
    const ask = (waiter, cmd, payload) => this.#connector.ask(waiter, cmd, payload);
    this.#recovery = new GroupRecovery(this.#host, ask, (event) => this.#listeners.tell(event));
  }

  /** True: signed in at this moment. */
  get isConnected() {
    return this.#connector.state === "online";
  }

  /** Bytes that were sent and are not out yet. */
  get unsentBytes() {
    return this.#connector.unsentBytes;
  }

  /** Sign in. */
  connect() {
    return this.#connector.connect();
  }

  /** Say GOODBYE; the session is over. Resolves when the connection is closed, two seconds later at most. */
  close() {
    const closed = this.#connector.close();
    // Where it never was connected nothing has told them.
    for (const stream of this.#streams) stream.end();
    return closed;
  }

  /** Return the seconds that a round trip to the node took. */
  async ping({ timeoutSeconds = undefined } = {}) {
    const payload = Uint8Array.from({ length: PING_BYTES }, () => Math.floor(this.#host.random() * 256));
    const started = this.#host.now();
    const options = { reliable: false, timeoutSeconds };
    const answer = await this.#connector.request(CORE_VER, Core.PING, payload, options);
    if (!isSame(answer, payload)) throw new RemoteProtocolError("the answer to PING does not carry its bytes");
    return this.#host.now() - started;
  }

  /** Make a group and return its ID. */
  async createGroup(settings = {}) {
    return this.#ask(Command.GROUP_CREATE, encodeNewGroup(settings), decodeGid);
  }

  /**
   * Become a member; the others are told when the message is not empty. With `recover` the client gives back after each
   * break what was missed, if the group has a history. True: from now on. A position of `groupPosition`: from there on.
   */
  async joinGroup(groupId, message = EMPTY, { recover = false } = {}) {
    if (recover !== false) await this.#recovery.join(groupId, message, readPosition(recover));
    else await this.#ask(Command.GROUP_JOIN, encodeGidMessage(groupId, message));
  }

  /** Be no member any more; the others are told when the message is not empty. */
  async leaveGroup(groupId, message = EMPTY) {
    const left = this.#recovery.leaving(groupId);
    try {
      await this.#ask(Command.GROUP_LEAVE, encodeGidMessage(groupId, message));
    } catch (error) {
      if (error instanceof NotMember || error instanceof GroupNotFound) left();
      else this.#recovery.stays(groupId);
      throw error;
    }
    left();
  }

  /** Return {epoch, offset} of the last message told of a group that was joined with `recover`; null: none. */
  groupPosition(groupId) {
    return this.#recovery.position(groupId);
  }

  /** Return {epoch, head, messages}: what is kept of a group behind the offset `after`, the oldest first. */
  async history(groupId, settings = {}) {
    return this.#ask(Command.GROUP_HISTORY, encodeAskHistory(groupId, settings), decodeHistory);
  }

  /** Return {count, members} of a group. With `watch` what changes is told from now on; false: no more. */
  async presence(groupId, settings = {}) {
    return this.#recovery.presence(groupId, settings);
  }

  /** Join some group that others made in this way, or make one; return {created, groupId}. */
  async joinRandomGroup(settings = {}) {
    return this.#ask(Command.GROUP_JOIN_RANDOM, encodeJoinRandom(settings), decodeCreated);
  }

  /** Return the IDs of this user's groups, newest last. */
  async listGroups() {
    return this.#ask(Command.GROUP_LIST, EMPTY, decodeGidList);
  }

  /** Send to the other members; resolves when the node has taken it. */
  async broadcast(groupId, message, { reliable = true } = {}) {
    await this.#ask(Command.GROUP_BROADCAST, encodeGidMessage(groupId, message), undefined, reliable);
  }

  /** Send to the other members without an answer: the fastest way, and errors of the node are not told. */
  broadcastNowait(groupId, message, { reliable = true } = {}) {
    this.#connector.send(BUILT_IN_VER, Command.GROUP_BROADCAST, encodeGidMessage(groupId, message), reliable);
  }

  /** Make a room on the node of this client and return its ID. */
  async createRoom(settings = {}) {
    return this.#ask(Command.ROOM_CREATE, encodeNewRoom(settings), decodeGid);
  }

  /** Become a member; the others are told. Returns the owner. */
  async joinRoom(roomId, message = EMPTY) {
    return this.#ask(Command.ROOM_JOIN, encodeGidMessage(roomId, message), decodeOwner);
  }

  /** Be no member any more; the others are told. */
  async leaveRoom(roomId, message = EMPTY) {
    await this.#ask(Command.ROOM_LEAVE, encodeGidMessage(roomId, message));
  }

  /** Send to the other members; resolves when the room's node has put it in line, the same for all members. */
  async broadcastRoom(roomId, message, { reliable = true } = {}) {
    await this.#ask(Command.ROOM_BROADCAST, encodeGidMessage(roomId, message), undefined, reliable);
  }

  /** Return {owner, members in join order} of a room that this user is in. */
  async roomMembers(roomId) {
    return this.#ask(Command.ROOM_MEMBERS, encodeGidMessage(roomId), decodeRoomList);
  }

  /** Send to one user, wherever in the cluster; resolves when the peer's node has taken it. */
  async sendDirect(peer, message, { reliable = true } = {}) {
    await this.#ask(Command.DM_SEND, encodeDirect(peer, message), undefined, reliable);
  }

  /** End the exchange of direct messages with a user; a message that is not empty is the last one. */
  async clearDirect(peer, message = EMPTY) {
    await this.#ask(Command.DM_CLEAR, encodeDirect(peer, message));
  }

  /** Run a command of the application and return the payload of its answer. */
  async request(ver, cmd, payload = EMPTY, options = {}) {
    return this.#connector.request(ver, cmd, toBytes(payload), options);
  }

  /** As `request`, without an answer. */
  send(ver, cmd, payload = EMPTY, { reliable = true } = {}) {
    this.#connector.send(ver, cmd, toBytes(payload), reliable);
  }

  /** Resolves when little waits to be sent. */
  whenDrained() {
    return this.#connector.whenDrained();
  }

  /** Call `callback` with each event of a class or name, "event" for all. Returns a function that ends it. */
  on(what, callback) {
    return this.#listeners.add(what, callback);
  }

  /** Return the events from now on, for `for await`. It ends when the client is closed or gives up. */
  events({ of = MeshEvent, maxEvents = 1024, whenFull = WhenFull.DROP_OLDEST } = {}) {
    const wanted = eventClass(of);
    const stream = new EventStream(maxEvents, whenFull, () => {
      remove();
      this.#streams.delete(stream);
    });
    this.#streams.add(stream);
    const remove = this.#listeners.add(MeshEvent, (event) => {
      if (event instanceof wanted) stream.put(event);
      if (event instanceof Disconnected && !event.willRetry) stream.end();
    });
    return stream;
  }

  async #ask(cmd, payload, decode = () => undefined, reliable = true) {
    return readAnswer(await this.#connector.request(BUILT_IN_VER, cmd, payload, { reliable }), decode);
  }
}

/** The parts without IO, for tests and tools. They may change in any version. */
export const internals = Object.freeze({
  Backoff,
  ClientMachine,
  HELLO_ID,
  MAX_PUSH_BYTES,
  PROBE_ID,
  PendingRequests,
  REFUSALS,
  Settled,
  SignInFailed,
  State,
  commandError,
  decodeCreated,
  decodeError,
  decodeGid,
  decodeGidList,
  decodeHistory,
  decodeOwner,
  decodePresence,
  decodePush,
  decodePushedDirect,
  decodePushedEntry,
  decodePushedMessage,
  decodePushedOwner,
  decodePushedPresence,
  decodeRecovered,
  decodeRoomList,
  decodeWelcome,
  encodeAskHistory,
  encodeAskPresence,
  encodeAskRecover,
  encodeDirect,
  encodeFrame,
  encodeGidMessage,
  encodeHello,
  encodeJoinRandom,
  encodeNewGroup,
  encodeNewRoom,
  readFrames,
});
