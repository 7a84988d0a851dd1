/** Types of meshrelay.js, the meshrelay client for browsers and Node. */

export const VERSION: string;

/** Why a node closed a connection. 4000 to 4499 mean "come back", 4500 to 4999 "stay away". */
export const CloseCode: {
  readonly DRAINING: 4000;
  readonly IDLE: 4001;
  readonly SLOW_CONSUMER: 4002;
  readonly INTERNAL: 4003;
  readonly MOVED: 4004;
  readonly REPLACED: 4500;
  readonly BAD_TOKEN: 4501;
  readonly PROTOCOL_ERROR: 4502;
  readonly FRAME_TOO_LARGE: 4503;
  readonly KICKED: 4504;
  readonly HELLO_TIMEOUT: 4505;
  readonly RATE_LIMITED: 4506;
};

/** Why a connection ended without a word of the node: `Disconnected.reason` when `code` is null. */
export const LocalReason: {
  /** This program called `close`. */
  readonly CLOSED: "CLOSED";
  /** The connection broke, or was closed without a reason. */
  readonly BROKEN: "BROKEN";
  /** Nothing was heard of the node for too long. */
  readonly SILENT: "SILENT";
  readonly NODE_BROKE_PROTOCOL: "NODE_BROKE_PROTOCOL";
  readonly NODE_DOES_NOT_READ: "NODE_DOES_NOT_READ";
  /** The browser has put the page aside; the client comes back with it. */
  readonly SUSPENDED: "SUSPENDED";
  /** The client cannot come back: the token, for instance, is not taken any more. */
  readonly GAVE_UP: "GAVE_UP";
};

/** `Disconnected.reason`: the name of the close code, or one of `LocalReason`. */
export type DisconnectReason = keyof typeof CloseCode | keyof typeof LocalReason | "UNKNOWN";

/** The numbers of refusals. */
export const ErrorCode: {
  readonly MALFORMED_PAYLOAD: 1;
  readonly UNKNOWN_COMMAND: 2;
  readonly NOT_SIGNED_IN: 3;
  readonly RATE_LIMITED: 4;
  readonly MESSAGE_TOO_LARGE: 5;
  readonly TIMED_OUT: 6;
  readonly INTERNAL: 7;
  readonly REFUSED: 8;
  readonly NODE_DRAINING: 9;
  readonly INVALID_TTL: 10;
  readonly EMPTY_AND_NOT_JOINED: 11;
  readonly NODE_OFFLINE: 12;
  readonly TOO_MANY_GROUPS: 13;
  readonly TOO_MANY_ROOMS: 14;
  readonly ALREADY_MEMBER: 20;
  readonly GROUP_NOT_FOUND: 21;
  readonly NOT_MEMBER: 22;
  readonly ROOM_FULL: 23;
  readonly NOT_IN_ROOM: 24;
  readonly ROOM_NOT_FOUND: 25;
  readonly USER_NOT_FOUND: 30;
  readonly MESSAGE_IS_EMPTY: 31;
  readonly NODES_NOT_FOUND: 32;
  readonly USER_DECLINED: 33;
  readonly NOT_ENOUGH_MEMBERS: 40;
  readonly LINK_GROUP_SIZE_INVALID: 41;
};

/** Every error of this module. */
export class MeshRelayError extends Error {}

/** The node refused a command; the connection lives. There is a class for each code. */
export class CommandError extends MeshRelayError {
  constructor(text?: string, code?: number, status?: number);
  /** One of `ErrorCode`, or a number of a newer node. */
  readonly code: number;
  /** 4: the caller's fault, the same will fail again. 5: the node's fault, another try may succeed. */
  readonly status: number;
  /** True: another try may succeed. */
  get isNodesFault(): boolean;
}

export class MalformedPayload extends CommandError { static readonly code: 1; }
export class UnknownCommand extends CommandError { static readonly code: 2; }
export class NotSignedIn extends CommandError { static readonly code: 3; }
export class RateLimited extends CommandError { static readonly code: 4; }
export class MessageTooLarge extends CommandError { static readonly code: 5; }
/** The node, or this client, gave up waiting. What was asked may have been done or not. */
export class TimedOut extends CommandError { static readonly code: 6; }
export class InternalError extends CommandError { static readonly code: 7; }
/** A hook or a command of the application said no. */
export class Refused extends CommandError { static readonly code: 8; }
export class NodeDraining extends CommandError { static readonly code: 9; }
export class InvalidTTL extends CommandError { static readonly code: 10; }
export class EmptyAndNotJoined extends CommandError { static readonly code: 11; }
export class NodeOffline extends CommandError { static readonly code: 12; }
export class TooManyGroups extends CommandError { static readonly code: 13; }
export class TooManyRooms extends CommandError { static readonly code: 14; }
export class AlreadyMember extends CommandError { static readonly code: 20; }
export class GroupNotFound extends CommandError { static readonly code: 21; }
export class NotMember extends CommandError { static readonly code: 22; }
export class RoomFull extends CommandError { static readonly code: 23; }
export class NotInRoom extends CommandError { static readonly code: 24; }
export class RoomNotFound extends CommandError { static readonly code: 25; }
export class UserNotFound extends CommandError { static readonly code: 30; }
export class MessageIsEmpty extends CommandError { static readonly code: 31; }
export class NodesNotFound extends CommandError { static readonly code: 32; }
export class UserDeclined extends CommandError { static readonly code: 33; }
export class NotEnoughMembers extends CommandError { static readonly code: 40; }
export class LinkGroupSizeInvalid extends CommandError { static readonly code: 41; }

/** It went wrong on the way; it may be tried again once the client is connected. */
export class DeliveryError extends MeshRelayError {}

/** There is no signed-in connection at this moment; nothing was sent. */
export class NotConnected extends DeliveryError {
  constructor(text?: string);
}

/** The connection ended while the request was on its way. The node may or may not have acted upon it. */
export class ConnectionLost extends DeliveryError {
  constructor(closeCode: number | null, text: string);
  /** What the node gave as its reason; null when it gave none. */
  readonly closeCode: number | null;
}

/** As many requests as `maxPendingRequests` allows wait for their answers; nothing was sent. */
export class TooManyPending extends DeliveryError {
  constructor(limit: number);
  readonly limit: number;
}

/** The node does not read as fast as this program sends; nothing was sent. Wait for `Client.whenDrained`. */
export class UnsentFull extends DeliveryError {
  constructor(unsentBytes: number, limitBytes: number);
  readonly unsentBytes: number;
  readonly limitBytes: number;
}

/** No node could be reached at the address, or it did not speak as it should. */
export class ConnectFailed extends MeshRelayError {
  constructor(url: string, detail: string, cause?: unknown);
  readonly url: string;
  readonly detail: string;
}

/** The node was reached and does not take this user or token. */
export class SignInRefused extends ConnectFailed {
  constructor(url: string, closeCode: number | null, text: string);
  /** 4000 to 4499: try again later. 4500 to 4999: do not. Null: the node answered with an error. */
  readonly closeCode: number | null;
}

/** The node does not follow the protocol. */
export class RemoteProtocolError extends MeshRelayError {
  constructor(text: string, closeCode?: number);
  readonly closeCode: number;
}

/** What a program may give as a message; a string goes out as UTF-8. */
export type Payload = string | ArrayBuffer | ArrayBufferView;

/** Bytes that came from the node. */
export class Message extends Uint8Array {
  /** The bytes as text; throws a TypeError when they are not UTF-8. */
  text(): string;
  /** The bytes as JSON; throws when they are none. */
  json(): any;
}

/** Writes one payload from front to back, all integers big-endian. */
export class PayloadWriter {
  u8(value: number, field?: string): this;
  u16(value: number, field?: string): this;
  u32(value: number, field?: string): this;
  u64(value: bigint, field?: string): this;
  i64(value: bigint, field?: string): this;
  /** A group or room ID: exactly 52 ASCII characters. */
  gid(groupId: string): this;
  /** u8 length and that many bytes of UTF-8. */
  str8(text: string): this;
  /** A str8 of 1 to 128 bytes. */
  userId(userId: string): this;
  bytes(message: Payload): this;
  finish(): Uint8Array;
}

/** Reads one payload from front to back. Each method throws `MalformedPayload`, which names the field. */
export class PayloadReader {
  constructor(payload: Payload);
  u8(field?: string): number;
  u16(field?: string): number;
  u32(field?: string): number;
  u64(field?: string): bigint;
  i64(field?: string): bigint;
  gid(field?: string): string;
  str8(field?: string): string;
  userId(field?: string): string;
  /** The next `size` bytes. */
  bytes(size: number, field?: string): Message;
  /** All that is left; may be empty. */
  rest(): Message;
  get isEmpty(): boolean;
  /** Expect that nothing is left. */
  end(field?: string): void;
}

/** What all events have in common: listen to this class, or to "event", to hear everything. */
export abstract class MeshEvent {
  /** What `Client.on` takes as its name. */
  readonly name: keyof EventMap;
}

/** The client is signed in, for the first time or again. */
export class Connected extends MeshEvent {
  constructor(userId: string, nodeId: string, sid: string, resumed: boolean, recovered: boolean);
  readonly name: "connected";
  readonly userId: string;
  readonly nodeId: string;
  /** Names the session; a secret. */
  readonly sid: string;
  /** True: it is the session from before the break, with its memberships. False after a break: join again. */
  readonly resumed: boolean;
  /** True: nothing that was pushed in between is missing. */
  readonly recovered: boolean;
}

/** The connection of a signed-in client is gone. */
export class Disconnected extends MeshEvent {
  constructor(code: number | null, reason: DisconnectReason, text: string, willRetry: boolean);
  readonly name: "disconnected";
  /** Close code of the node; null when it gave none. */
  readonly code: number | null;
  readonly reason: DisconnectReason;
  /** For people. */
  readonly text: string;
  /** True: the client comes back by itself. */
  readonly willRetry: boolean;
}

declare abstract class GroupEvent extends MeshEvent {
  constructor(groupId: string, userId: string, message: Message);
  readonly groupId: string;
  readonly userId: string;
  readonly message: Message;
}

/** Another member broadcast `message`. */
export class GroupMessageReceived extends GroupEvent {
  constructor(groupId: string, userId: string, message: Message, offset?: number);
  readonly name: "groupMessage";
  /** Its place in the history, from 1; 0 = it has none, or the group was joined without `recover`. */
  readonly offset: number;
}
/** A user joined and said `message`. */
export class GroupMemberJoined extends GroupEvent { readonly name: "groupJoined"; }
/** A user left and said `message`. */
export class GroupMemberLeft extends GroupEvent { readonly name: "groupLeft"; }
/** A member was lost without leaving; the application of the node made `message`. */
export class GroupMemberLost extends GroupEvent { readonly name: "groupLost"; }
/** A lost member is back; the application of the node made `message`. */
export class GroupMemberBack extends GroupEvent { readonly name: "groupBack"; }

/**
 * The client is in a group again that it joined with `recover`, after a break. Messages that were missed follow as if
 * they came just now.
 */
export class GroupRecovered extends MeshEvent {
  constructor(groupId: string, recovered: boolean, error?: Error | null);
  readonly name: "groupRecovered";
  readonly groupId: string;
  /** False: something may be missing. */
  readonly recovered: boolean;
  /** Why the client is in the group no more; null: it is. */
  readonly error: Error | null;
}

/** Members of a watched group came, were lost or went. Without any of them: list them anew. */
export class GroupPresenceChanged extends MeshEvent {
  constructor(
    groupId: string,
    count: number,
    there?: readonly string[],
    away?: readonly string[],
    gone?: readonly string[],
  );
  readonly name: "groupPresence";
  readonly groupId: string;
  /** How many there are now. */
  readonly count: number;
  /** User IDs: came, or are back. */
  readonly there: readonly string[];
  /** Lost their connection, and may come back. */
  readonly away: readonly string[];
  /** Are members no more. */
  readonly gone: readonly string[];
}

declare abstract class RoomEvent extends MeshEvent {
  constructor(roomId: string, userId: string, message: Message);
  readonly roomId: string;
  readonly userId: string;
  readonly message: Message;
}

/** Another member broadcast `message`. */
export class RoomMessageReceived extends RoomEvent { readonly name: "roomMessage"; }
/** A user joined and said `message`, which may be empty. */
export class RoomMemberJoined extends RoomEvent { readonly name: "roomJoined"; }
/** A user left and said `message`, which may be empty. */
export class RoomMemberLeft extends RoomEvent { readonly name: "roomLeft"; }
/** A member was lost without leaving. With this client's own user ID: the client is in the room no more. */
export class RoomMemberLost extends RoomEvent { readonly name: "roomLost"; }

/** The room has another owner. */
export class RoomOwnerChanged extends MeshEvent {
  constructor(roomId: string, owner: string);
  readonly name: "roomOwner";
  readonly roomId: string;
  readonly owner: string;
}

declare abstract class DirectEvent extends MeshEvent {
  constructor(userId: string, message: Message);
  /** The other user; "" is the node's application, which no user can call itself. */
  readonly userId: string;
  readonly message: Message;
}

/** Another user sent `message` to this one. */
export class DirectMessageReceived extends DirectEvent { readonly name: "directMessage"; }
/** A user has ended the exchange of direct messages and said `message` as the last. */
export class DirectCleared extends DirectEvent { readonly name: "directCleared"; }
/** The session of a user with whom this one exchanged direct messages is over. */
export class DirectPeerGone extends DirectEvent { readonly name: "directPeerGone"; }

/** A push of the application's own (ver 2 to 255), or one that this version has no class for. */
export class PushReceived extends MeshEvent {
  constructor(ver: number, cmd: number, payload: Message);
  readonly name: "pushReceived";
  readonly ver: number;
  readonly cmd: number;
  readonly payload: Message;
}

export interface EventMap {
  event: AnyEvent;
  connected: Connected;
  disconnected: Disconnected;
  groupMessage: GroupMessageReceived;
  groupJoined: GroupMemberJoined;
  groupLeft: GroupMemberLeft;
  groupLost: GroupMemberLost;
  groupBack: GroupMemberBack;
  groupRecovered: GroupRecovered;
  groupPresence: GroupPresenceChanged;
  roomMessage: RoomMessageReceived;
  roomJoined: RoomMemberJoined;
  roomLeft: RoomMemberLeft;
  roomLost: RoomMemberLost;
  roomOwner: RoomOwnerChanged;
  directMessage: DirectMessageReceived;
  directCleared: DirectCleared;
  directPeerGone: DirectPeerGone;
  pushReceived: PushReceived;
}

/** One of all events; `event.name` tells which. */
export type AnyEvent =
  | Connected
  | Disconnected
  | GroupMessageReceived
  | GroupMemberJoined
  | GroupMemberLeft
  | GroupMemberLost
  | GroupMemberBack
  | GroupRecovered
  | GroupPresenceChanged
  | RoomMessageReceived
  | RoomMemberJoined
  | RoomMemberLeft
  | RoomMemberLost
  | RoomOwnerChanged
  | DirectMessageReceived
  | DirectCleared
  | DirectPeerGone
  | PushReceived;

type EventClass<E extends MeshEvent> = abstract new (...given: any[]) => E;

/** What a stream does with an event when its program does not read as fast as events come. */
export const WhenFull: {
  readonly DROP_OLDEST: "drop-oldest";
  readonly DROP_NEWEST: "drop-newest";
  /** End the stream: the program sees that something is missing. */
  readonly END: "end";
};
export type WhenFull = (typeof WhenFull)[keyof typeof WhenFull];

/** Events in the order in which they came, for `for await`. Ends when the client is closed for good. */
export class EventStream<E extends MeshEvent = AnyEvent> implements AsyncIterableIterator<E> {
  constructor(maxEvents: number, whenFull: WhenFull, onEnd?: () => void);
  /** Events that were thrown away. */
  readonly dropped: number;
  /** Events that wait to be read. */
  get size(): number;
  /** One more event. */
  put(event: E): void;
  /** Nothing more comes. What waits is still read. */
  end(): void;
  next(): Promise<IteratorResult<E, undefined>>;
  return(value?: undefined): Promise<IteratorReturnResult<undefined>>;
  [Symbol.asyncIterator](): this;
}

/** A token (a JWT), or what gives a fresh one at each connect. */
export type TokenSource = string | (() => string | Promise<string>);

/** A class like the WebSocket of browsers; that of the package `ws` is one. */
export type WebSocketClass = new (url: string) => object;

export interface ClientOptions {
  /** 1 to 128 bytes of UTF-8. May be left out when a token names the user and the address is a ws one. */
  user?: string | null;
  token?: TokenSource | null;
  /** Tell the node what was received, so that a resume can recover what was lost with a connection. */
  acks?: boolean;
  /** After a break go on with the same session. */
  resume?: boolean;
  /** False: a broken connection ends the client; `connect` may be called again. */
  reconnect?: boolean;
  /** True: the first `connect` tries again too, until it works or `close` is called. */
  retryFirst?: boolean;
  /** For each try: longest time until the connection stands, with a fresh token, and as long again for the sign-in. */
  connectTimeoutSeconds?: number;
  /** Longest wait for an answer, unless a call names another. */
  requestTimeoutSeconds?: number;
  /** The first new try comes after 0 to this many seconds, each further one after up to twice as long... */
  retryBaseSeconds?: number;
  /** ... but never longer than this. */
  retryCapSeconds?: number;
  /** A page that wakes up asks the node whether it is there, and waits this long for a sign of life. */
  wakeTimeoutSeconds?: number;
  /** Requests that may wait for their answers at one time. */
  maxPendingRequests?: number;
  /** Bytes that may wait to be sent. */
  maxUnsentBytes?: number;
  /** "name/version" of the program, for the node's log. */
  clientName?: string;
  /** Where there is none, as in Node before 22. */
  WebSocket?: WebSocketClass;
  /** Another `fetch`, for http and https addresses. */
  fetch?: typeof globalThis.fetch;
}

export interface GroupSettings {
  /** The group stays when its last member leaves. */
  allowEmpty?: boolean;
  /** This user is its first member. True if left out. */
  join?: boolean;
  /** Its lifetime, more than 10; 3600 if left out. */
  ttlSeconds?: number;
  /** What is sent within the interval goes out together; below 100 it is 0, which is off. */
  intervalMs?: number;
}

/** How far a client has come in a group. It may be kept as JSON. */
export interface GroupPosition {
  /** Names one life of the history; compare for equality only. */
  epoch: string;
  /** Of the last message. */
  offset: number;
}

export interface JoinOptions {
  /**
   * True: after each break give back what was missed, if the group has a history; `GroupRecovered` says how that went. A
   * position that `groupPosition` told another time: begin behind it. Null, a position that is not known, is as true.
   */
  recover?: boolean | GroupPosition | null;
}

export interface HistorySettings {
  /** Messages behind this offset; 0 if left out: from the oldest on. */
  after?: number;
  /** At most so many, 100 if left out; fewer come when they are long. 0 = only where the history is. */
  limit?: number;
}

/** One message that is kept of a group. */
export interface HistoryMessage {
  /** From 1, without a gap within an epoch. */
  offset: number;
  /** User ID; empty: the application. */
  sender: string;
  ver: number;
  cmd: number;
  /** As it was broadcast; of the application's own commands, and announcements, the whole payload. */
  message: Message;
}

/** A part of the history of a group. */
export interface HistoryPage {
  /** Names one life of the history; compare for equality only. "0": the group has no history. */
  epoch: string;
  /** Offset of the last message ever; 0: there was none in this epoch. */
  head: number;
  /** In order, without a gap. The first may be later than asked for: what was before is not kept any more. */
  messages: HistoryMessage[];
}

export interface PresenceSettings {
  /** Members whose user IDs sort behind this one. */
  after?: string;
  /** At most so many; 1,000 if left out. */
  limit?: number;
  /** True: tell what changes from now on by `GroupPresenceChanged`, also after a break; false: no more. */
  watch?: boolean;
}

/** Who is in a group at one moment, in the whole cluster. */
export interface Presence {
  count: number;
  /** By user ID; empty when there are too many to be named. Who is away has lost the connection and may come back. */
  members: { userId: string; isAway: boolean }[];
}

export interface RoomSettings extends GroupSettings {
  /** 0 = as many as the node allows. */
  maxMembers?: number;
}

export interface RandomGroupSettings extends Omit<GroupSettings, "join"> {
  message?: Payload;
}

export interface SendOptions {
  /** False: members on UDP may miss it. */
  reliable?: boolean;
}

export interface RequestOptions extends SendOptions {
  /** Longest wait; the client's option if left out. */
  timeoutSeconds?: number;
  /** Aborting only stops the waiting. */
  signal?: AbortSignal;
}

export interface StreamOptions<E extends MeshEvent> {
  /** Only events of this class or name. */
  of?: EventClass<E> | keyof EventMap;
  /** What waits at most while the program does not read; 1024 if left out. */
  maxEvents?: number;
  /** What happens to one more; `EventStream.dropped` counts. */
  whenFull?: WhenFull;
}

/** One user at a node. */
export class Client {
  /**
   * @param url `ws://host:port/` or `wss://`: the WebSocket of a node, as browsers read such a URL. `http://host:port`
   *   or `https://`: a node's HTTP port, which is asked at each connect for the least loaded node. None: the host of
   *   the page, asked in the same way.
   */
  constructor(url?: string | URL | null, options?: ClientOptions);
  constructor(options?: ClientOptions);
  /** True: signed in at this moment. */
  get isConnected(): boolean;
  /** Bytes that were sent and are not out yet. */
  get unsentBytes(): number;
  connect(): Promise<Connected>;
  close(): Promise<void>;
  ping(options?: { timeoutSeconds?: number }): Promise<number>;
  createGroup(settings?: GroupSettings): Promise<string>;
  joinGroup(groupId: string, message?: Payload, options?: JoinOptions): Promise<void>;
  leaveGroup(groupId: string, message?: Payload): Promise<void>;
  /** Of the last message told of a group that was joined with `recover`; null: not known. */
  groupPosition(groupId: string): GroupPosition | null;
  /** For members only. */
  history(groupId: string, settings?: HistorySettings): Promise<HistoryPage>;
  /** For members only. */
  presence(groupId: string, settings?: PresenceSettings): Promise<Presence>;
  joinRandomGroup(settings?: RandomGroupSettings): Promise<{ created: boolean; groupId: string }>;
  listGroups(): Promise<string[]>;
  broadcast(groupId: string, message: Payload, options?: SendOptions): Promise<void>;
  /** Throws `NotConnected`, `UnsentFull` or `MessageTooLarge` when nothing was sent. */
  broadcastNowait(groupId: string, message: Payload, options?: SendOptions): void;
  createRoom(settings?: RoomSettings): Promise<string>;
  /** Resolves with the owner. */
  joinRoom(roomId: string, message?: Payload): Promise<string>;
  leaveRoom(roomId: string, message?: Payload): Promise<void>;
  broadcastRoom(roomId: string, message: Payload, options?: SendOptions): Promise<void>;
  roomMembers(roomId: string): Promise<{ owner: string; members: string[] }>;
  sendDirect(peer: string, message: Payload, options?: SendOptions): Promise<void>;
  clearDirect(peer: string, message?: Payload): Promise<void>;
  /** A command of the application: ver 2 to 255, cmd 0 to 65535. */
  request(ver: number, cmd: number, payload?: Payload, options?: RequestOptions): Promise<Message>;
  /** As `request`, without an answer. Throws as `broadcastNowait`. */
  send(ver: number, cmd: number, payload?: Payload, options?: SendOptions): void;
  whenDrained(): Promise<void>;
  /** Returns a function that ends it. */
  on<K extends keyof EventMap>(name: K, callback: (event: EventMap[K]) => unknown): () => void;
  on<E extends MeshEvent>(eventClass: EventClass<E>, callback: (event: E) => unknown): () => void;
  events<K extends keyof EventMap>(options: Omit<StreamOptions<MeshEvent>, "of"> & { of: K }): EventStream<EventMap[K]>;
  events<E extends MeshEvent>(options: Omit<StreamOptions<E>, "of"> & { of: EventClass<E> }): EventStream<E>;
  events(options?: Omit<StreamOptions<MeshEvent>, "of">): EventStream;
}

/** The parts without IO, for tests and tools. They may change in any version. */
export const internals: Readonly<Record<string, any>>;
