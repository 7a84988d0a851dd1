/** A program for Node that answers in a group: `node examples/bot.js ws://127.0.0.1:7300/ [group ID]`. */

import { Client, NotConnected } from "meshrelay";

const [url = "ws://127.0.0.1:7300/", wanted = ""] = process.argv.slice(2);
const client = new Client(url, { user: "bot" });

client.on("connected", async (event) => {
  if (event.resumed) return;
  let groupId = wanted;
  if (wanted) await client.joinGroup(wanted, "hello");
  else ({ groupId } = await client.joinRandomGroup({ message: "hello" }));
  console.log(`in group ${groupId}`);
});
client.on("disconnected", (event) => console.log(`${event.reason}: ${event.text}`));

process.once("SIGINT", () => client.close());

await client.connect();
for await (const event of client.events({ of: "groupMessage" })) {
  try {
    await client.broadcast(event.groupId, `${event.userId} said: ${event.message.text()}`);
  } catch (error) {
    if (!(error instanceof NotConnected)) console.error(error.message);
  }
}
