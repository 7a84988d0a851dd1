/** Compiled, never run: the types allow what the client can and refuse what it cannot. */

import {
  AlreadyMember,
  Client,
  CloseCode,
  CommandError,
  Connected,
  ErrorCode,
  EventStream,
  GroupMessageReceived,
  MeshEvent,
  Message,
  PayloadReader,
  PayloadWriter,
  UnsentFull,
  WhenFull,
  type AnyEvent,
  type ClientOptions,
  type GroupPosition,
} from "meshrelay";

const options: ClientOptions = { user: "ann", token: async () => "jwt", retryFirst: true };
const client = new Client("wss://relay.example/", options);
new Client();
new Client({ user: "ann", token: () => "jwt" });
new Client(new URL("http://relay.example"), { user: "ann", token: "jwt" });
// @ts-expect-error there is no such option
new Client("ws://h/", { usre: "ann" });

const connected: Connected = await client.connect();
const recovered: boolean = connected.recovered;
const groupId: string = await client.createGroup({ ttlSeconds: 60, allowEmpty: true });
const { created } = await client.joinRandomGroup({ message: new Uint8Array(3) });
const owner: string = await client.joinRoom(groupId, "hi");
const { members } = await client.roomMembers(groupId);
await client.broadcast(groupId, "hi", { reliable: false });
client.broadcastNowait(groupId, new ArrayBuffer(3));
await client.joinGroup(groupId, "", { recover: true });
const position: GroupPosition | null = client.groupPosition(groupId);
await client.joinGroup(groupId, "", { recover: position });
const { epoch, head, messages } = await client.history(groupId, { after: position?.offset ?? 0, limit: 10 });
for (const { offset, sender, message } of messages) [offset satisfies number, sender + epoch + message.text()];
const { count, members: present } = await client.presence(groupId, { watch: true });
if (present.length < count) await client.presence(groupId, { after: present.at(-1)?.userId ?? "" });
// @ts-expect-error a position has an epoch too
await client.joinGroup(groupId, "", { recover: { offset: 7 } });
const answer: Message = await client.request(2, 1, new PayloadWriter().u64(5n).str8("x").finish(), { timeoutSeconds: 1 });
const text: string = answer.text();
const big: bigint = new PayloadReader(answer).u64();
const bytes: Uint8Array = answer;
// @ts-expect-error a number is no message
await client.sendDirect("bob", 7);
// @ts-expect-error numbers of 64 bits are BigInts
new PayloadWriter().u64(5);

const remove: () => void = client.on("groupMessage", (event) => event.message.text() + event.groupId);
client.on(GroupMessageReceived, async (event) => event.userId);
client.on(MeshEvent, (event) => event.name);
client.on("event", (event: AnyEvent) => {
  switch (event.name) {
    case "disconnected":
      return event.code === CloseCode.REPLACED || event.reason === "SILENT" || event.willRetry;
    case "roomOwner":
      return event.owner;
    case "groupMessage":
      return event.offset;
    case "groupRecovered":
      return event.recovered || event.error?.message;
    case "groupPresence":
      return [...event.there, ...event.away, ...event.gone].length === 0 && event.count;
    case "pushReceived":
      return event.payload.json();
    default:
      return null;
  }
});
// @ts-expect-error there is no such event
client.on("groupMessages", () => {});
remove();

const stream: EventStream<GroupMessageReceived> = client.events({ of: "groupMessage", maxEvents: 10, whenFull: WhenFull.END });
for await (const event of stream) event.message.text();
for await (const event of client.events({ of: Connected })) event.sid.length;
for await (const event of client.events()) if (event.name === "roomMessage") event.roomId.length;

try {
  await client.joinGroup(groupId);
} catch (error) {
  if (error instanceof AlreadyMember) error.code satisfies number;
  else if (error instanceof CommandError && error.code === ErrorCode.TIMED_OUT) error.isNodesFault satisfies boolean;
  else if (error instanceof UnsentFull) error.limitBytes satisfies number;
}

export { big, bytes, created, head, members, owner, recovered, text };
