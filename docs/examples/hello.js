const { Client } = await import("/meshrelay.js");
const client = new Client({ user: "browser" });
client.on("groupMessage", ({ userId, message }) => console.log(`${userId}: ${message.text()}`));
await client.connect();
const { groupId } = await client.joinRandomGroup();
const say = (message) => client.broadcast(groupId, message);
await say("hello from a browser");
