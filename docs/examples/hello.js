const ws = new WebSocket("ws://127.0.0.1:7300/"), utf8 = new TextEncoder(), text = new TextDecoder();
let group;
ws.binaryType = "arraybuffer";
function send(ver, cmd, payload, id = 1) {
  const frame = new Uint8Array(12 + payload.length), head = new DataView(frame.buffer);
  head.setUint8(0, ver); head.setUint8(1, 1); head.setUint16(2, cmd); head.setUint32(4, id); head.setUint32(8, payload.length);
  frame.set(payload, 12); ws.send(frame);
}
const say = (message) => send(1, 113, new Uint8Array([...group, ...utf8.encode(message)]));
ws.onopen = () => send(0, 1, utf8.encode(JSON.stringify({protocol: 1, user: "browser"})));  // HELLO
ws.onmessage = ({data}) => {
  for (let at = 0, size; at < data.byteLength; at += 12 + size) {
    const head = new DataView(data, at), status = head.getUint8(1), cmd = head.getUint16(2);
    size = head.getUint32(8);
    const body = new Uint8Array(data, at + 12, size), end = 53 + body[52];
    if (status === 1 && cmd === 1) send(1, 114, new Uint8Array([0, 0, 14, 16, 0, 0, 0]));    // signed in: join a group
    if (status === 1 && cmd === 114) { group = body.slice(1, 53); say("hello from a browser"); }
    if (status === 255 && cmd === 113) console.log(`${text.decode(body.slice(53, end))}: ${text.decode(body.slice(end))}`);
    if (status === 255 && cmd === 2) send(0, 3, body, 0);                                  // PING: answer with PONG
  }
};
