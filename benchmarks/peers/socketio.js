// socket.io over WebSocket only: a room that clients join and leave, and messages to all others in it; a room for each
// user, and messages to it.
const { createServer } = require("http");
const { Server } = require("socket.io");

const http = createServer();
const server = new Server(http, { transports: ["websocket"], pingInterval: 600000, serveClient: false });
server.on("connection", (socket) => {
  socket.on("join", (done) => { socket.join("g"); done(); });
  socket.on("leave", (done) => { socket.leave("g"); done(); });
  socket.on("p", (text) => socket.to("g").emit("m", text));
  socket.on("name", (user, done) => { socket.join(user); done(); });
  socket.on("d", (user, text) => server.to(user).emit("m", text));
});
http.listen({ host: "127.0.0.1", port: 0, backlog: 1024 }, () => console.log("ready " + http.address().port));
