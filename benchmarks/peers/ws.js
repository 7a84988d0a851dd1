// ws: what one client sends goes to all others, the loop of its own documentation. A text message is answered.
const { WebSocket, WebSocketServer } = require("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 1024 });
server.on("listening", () => console.log("ready " + server.address().port));
server.on("connection", (client) => {
  client.on("message", (data, isBinary) => {
    if (!isBinary) return client.send("ok");
    for (const other of server.clients)
      if (other !== client && other.readyState === WebSocket.OPEN) other.send(data, { binary: true });
  });
});
