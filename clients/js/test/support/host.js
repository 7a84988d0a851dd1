/** A world without time, network and page: what a client needs of it, in the hands of a test. */

import { internals } from "../../meshrelay.js";

const { encodeFrame, readFrames, HELLO_ID } = internals;

export const SID = "0123456789abcdef0123456789abcdef";

const utf8 = new TextEncoder();

/** Let everything run that waits for nothing but its turn. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

export const text = (value) => utf8.encode(value);

export const joinBytes = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** The payload of an answer to HELLO. */
export const welcome = (changes = {}) =>
  text(
    JSON.stringify({
      protocol: 1,
      sid: SID,
      node: "node-1",
      user: "ann",
      resumed: false,
      recovered: false,
      heartbeat_seconds: 25,
      max_payload_bytes: 65536,
      ...changes,
    }),
  );

export const welcomeFrame = (changes) => encodeFrame(0, 1, 1, HELLO_ID, welcome(changes));

export const push = (ver, cmd, payload = new Uint8Array(0)) => encodeFrame(ver, 255, cmd, 0, payload);

export const coded = (code, words = "") => joinBytes([code >> 8, code & 255], text(words));

/** Stands where a WebSocket would; the test is the node. */
export class FakeSocket {
  bufferedAmount = 0;
  sent = [];
  closedWith = null;
  isOver = false;

  constructor(url) {
    this.url = url;
  }

  send(message) {
    if (this.isOver) throw new Error("not open");
    this.sent.push(message.slice());
  }

  close(code, reason) {
    if (this.closedWith !== null || this.isOver) return;
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code < 5000)) throw new Error(`no such code: ${code}`);
    this.closedWith = { code, reason };
    queueMicrotask(() => this.end(code ?? 1005, reason ?? "", true));
  }

  open() {
    this.onopen({});
  }

  /** Deliver a binary message. */
  receive(...frames) {
    this.onmessage({ data: joinBytes(...frames).buffer });
  }

  receiveAnything(data) {
    this.onmessage({ data });
  }

  /** The connection is gone. */
  end(code = 1006, reason = "", wasClean = false) {
    if (this.isOver) return;
    this.isOver = true;
    if (!wasClean) this.onerror?.({});
    this.onclose({ code, reason, wasClean });
  }

  /** The frames that were sent since the last call. */
  frames() {
    return this.sent.splice(0).flatMap((message) => [...readFrames(message)]);
  }
}

class FakeTarget {
  listeners = new Map();

  addEventListener(type, callback) {
    this.listeners.set(type, [...(this.listeners.get(type) ?? []), callback]);
  }

  removeEventListener(type, callback) {
    this.listeners.set(type, (this.listeners.get(type) ?? []).filter((other) => other !== callback));
  }

  get count() {
    return [...this.listeners.values()].reduce((sum, list) => sum + list.length, 0);
  }

  fire(type, event = {}) {
    for (const callback of this.listeners.get(type) ?? []) callback(event);
  }
}

/** See the module. `share` is what `random` gives: the longest delays unless a test says otherwise. */
export class FakeHost {
  seconds = 1000;
  share = 0.999999;
  timers = [];
  sockets = [];
  window = new FakeTarget();
  document = Object.assign(new FakeTarget(), { visibilityState: "visible" });
  location = undefined;
  fetched = [];
  answers = [];

  constructor() {
    const host = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url) {
        super(url);
        host.sockets.push(this);
      }
    };
    this.now = () => this.seconds;
    this.random = () => this.share;
    this.setTimeout = (callback, milliseconds) => {
      const timer = { callback, at: this.seconds + milliseconds / 1000 };
      this.timers.push(timer);
      return timer;
    };
    this.clearTimeout = (timer) => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
    this.fetch = async (url, options) => {
      this.fetched.push({ url, options });
      const { status, body } = this.answers.shift();
      return { status, text: async () => (typeof body === "string" ? body : JSON.stringify(body)) };
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Let time pass; timers fire when they are due. */
  async advance(seconds) {
    const end = this.seconds + seconds;
    for (;;) {
      await settle();
      const due = this.timers.filter((timer) => timer.at <= end).sort((one, other) => one.at - other.at)[0];
      if (due === undefined) break;
      this.timers = this.timers.filter((timer) => timer !== due);
      this.seconds = Math.max(this.seconds, due.at);
      due.callback();
    }
    this.seconds = end;
    await settle();
  }

  /** Let time pass while the page sleeps: no timer fires before its end, and then those that are due. */
  async sleep(seconds) {
    this.seconds += seconds;
    await this.advance(0);
  }

  /** Answer the HELLO of the newest connection. */
  async signIn(changes = {}) {
    await settle();
    this.socket.open();
    await settle();
    const [hello] = this.socket.frames();
    this.socket.receive(welcomeFrame(changes));
    await settle();
    return JSON.parse(new TextDecoder().decode(hello.payload));
  }
}
