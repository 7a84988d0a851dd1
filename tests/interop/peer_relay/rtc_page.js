// One end of a WebRTC link in a browser, without any library. Runs in a page; window.end.lines is what it says, the
// same lines as those of rtc_peer.js, and window.end.obey(order) takes the same orders.
"use strict";
window.startEnd = (isInitiator) => {
  const lines = [];
  const pending = [];
  const connection = new RTCPeerConnection({ iceServers: [] });
  let channel = null;

  const say = (line) => lines.push(line);

  function use(made) {
    channel = made;
    channel.binaryType = "arraybuffer";
    channel.onopen = () => say({ event: "open", label: channel.label, max: connection.sctp.maxMessageSize });
    channel.onmessage = (event) => {
      const isText = typeof event.data === "string";
      const size = isText ? new TextEncoder().encode(event.data).length : event.data.byteLength;
      say({ event: "message", size, isText, text: isText && size <= 1000 ? event.data : "" });
    };
    channel.onclose = () => say({ event: "lost", why: "closed" });
  }

  async function signal(data) {
    if (data.candidate) {
      if (connection.remoteDescription) await connection.addIceCandidate(data.candidate);
      else pending.push(data.candidate);
      return;
    }
    await connection.setRemoteDescription(data);
    for (const candidate of pending.splice(0)) await connection.addIceCandidate(candidate);
    if (data.type === "offer") await describe(await connection.createAnswer());
  }

  async function describe(description) {
    await connection.setLocalDescription(description);
    say({ signal: { type: description.type, sdp: description.sdp } });
  }

  connection.onicecandidate = ({ candidate }) => {
    if (candidate) say({ signal: { candidate: candidate.toJSON() } });
  };
  connection.ondatachannel = (event) => use(event.channel);
  if (isInitiator) {
    use(connection.createDataChannel("0123456789abcdef0123456789abcdef01234567"));
    connection.createOffer().then(describe);
  }

  window.end = {
    lines,
    obey(order) {
      if (order.signal) signal(order.signal).catch((error) => say({ event: "error", why: String(error) }));
      if (order.send) channel.send(order.send);
      if (order.send_size) channel.send("x".repeat(order.send_size));
      if (order.close) connection.close();
    },
  };
};
