// ws: what one client sends goes to all others, the loop of its own documentation. A text message is answered.
// On the path /direct the text is the name of a user, and a binary message begins with the one that it goes to.
const { WebSocket, WebSocketServer } = require("ws");

const users = new Map();

function relay(client) {
  let name;
  client.on("message", (data, isBinary) => {
    if (!isBinary) {
      name = data.toString();
      users.set(name, client);
      return client.send("ok");
    }
    const end = 1 + data[0];
    const other = users.get(data.latin1Slice(1, end));
    if (other !== undefined && other.readyState === WebSocket.OPEN) other.send(data.subarray(end), { binary: true });
  });
  client.on("close", () => { if (users.get(name) === client) users.delete(name); });
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 1024 });
server.on("listening", () => console.log("ready " + server.address().port));
server.on("connection", (client, request) => {
  if (request.url === "/direct") return relay(client);
  client.on("message", (data, isBinary) => {
    if (!isBinary) return client.send("ok");
    for (const other of server.clients)
      if (other !== client && other.readyState === WebSocket.OPEN) other.send(data, { binary: true });
  });
});
