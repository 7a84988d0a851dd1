/**
 * The node's state, once a second: pushed over its WebSocket, or, where that cannot be reached, asked for by HTTP.
 *
 *     ticket -> sign-in -> CONSOLE_WATCH -> history and state, then a push a second
 */

import { Client, CommandError } from "/meshrelay.js";
import { Refused, getState, getTicket } from "./access.js";

const VER = 1;
const CONSOLE_WATCH = 150;
const SIGN_IN_SECONDS = 5;
const RETRY_SECONDS = 2;

/** So often by HTTP, once a second; then the WebSocket is tried again: its port may have been closed for a moment. */
const POLLS = 60;

/** Ten minutes, in seconds. */
export const MAX_SAMPLES = 600;

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export class Feed {
  /** Objects with the columns as names, oldest first. */
  samples = [];
  #columns = [];
  #show;
  #say;
  #refused;
  #isStopped = false;

  /**
   * @param {(state: object, samples: object[]) => void} show
   * @param {(state: string, text: string) => void} say "live", "waiting" or "lost", and why
   * @param {(error: Refused) => void} refused the page may not watch; nothing more comes until `start`
   */
  constructor(show, say, refused) {
    this.#show = show;
    this.#say = say;
    this.#refused = refused;
  }

  /** Watch until the page is gone, through all breaks. */
  async start() {
    this.#isStopped = false;
    while (!this.#isStopped) {
      try {
        await this.#watch();
      } catch (error) {
        if (error instanceof Refused && [401, 403, 429].includes(error.status)) {
          this.#say("lost", "not allowed");
          this.#refused(error);
          return;
        }
        this.#say("lost", error instanceof CommandError ? error.message : "connection lost, trying again");
      }
      await wait(RETRY_SECONDS);
    }
  }

  /** One connection, from its ticket to its end. */
  async #watch() {
    const ticket = await getTicket();
    const isReached = ticket.url !== null && (await this.#listen(ticket));
    if (!isReached) await this.#poll(ticket.url === null ? Infinity : POLLS);
  }

  /** Returns false when the WebSocket port could not be reached. */
  async #listen({ url, user, token }) {
    // A ticket is good once: the loop above gets another, the client does not come back by itself.
    const client = new Client(url, { user, token, acks: false, resume: false, reconnect: false, connectTimeoutSeconds: SIGN_IN_SECONDS });
    const isOver = new Promise((resolve) => client.on("disconnected", resolve));
    client.on("pushReceived", ({ ver, cmd, payload }) => {
      if (ver === VER && cmd === CONSOLE_WATCH) this.#state(payload.json());
    });
    try {
      await client.connect();
    } catch {
      return false;
    }
    try {
      const answer = await client.request(VER, CONSOLE_WATCH, new Uint8Array([1]));
      this.#everything(answer.json());
      this.#say("live", "live");
      await isOver;
      this.#say("waiting", "connection lost, trying again");
      return true;
    } finally {
      await client.close();
    }
  }

  async #poll(count) {
    for (let at = 0; at < count; at += 1) {
      this.#everything(await getState());
      this.#say("live", "live, by HTTP");
      await wait(1);
    }
  }

  #everything({ columns, samples, state }) {
    this.#columns = columns;
    this.samples = samples.map((values) => this.#sample(values));
    this.#show(state, this.samples);
  }

  #sample(values) {
    return Object.fromEntries(this.#columns.map((name, at) => [name, values[at]]));
  }

  #state(state) {
    if (state.sample !== null) {
      const sample = this.#sample(state.sample);
      if (sample.at !== this.samples.at(-1)?.at) this.samples.push(sample);
      if (this.samples.length > MAX_SAMPLES) this.samples.shift();
    }
    this.#show(state, this.samples);
  }
}
