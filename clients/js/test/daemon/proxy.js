/** A TCP proxy whose connections can be cut at any byte, and that can lead elsewhere or nowhere. */

import net from "node:net";

export class CuttingProxy {
  cuts = 0;
  /** ws://host:port/ of the node for connections from now on; null: they are refused. */
  target;
  #pairs = new Set();
  #server;

  constructor(target) {
    this.target = target;
    this.#server = net.createServer((client) => {
      if (this.target === null) {
        client.resetAndDestroy();
        return;
      }
      const { hostname, port } = new URL(this.target);
      const node = net.connect({ host: hostname, port: Number(port) });
      const pair = { client, node, bytesLeft: Infinity };
      this.#pairs.add(pair);
      client.on("data", (data) => node.write(data));
      node.on("data", (data) => {
        if (data.length < pair.bytesLeft) {
          pair.bytesLeft -= data.length;
          client.write(data);
          return;
        }
        client.write(data.subarray(0, pair.bytesLeft), () => this.#end(pair));
        pair.bytesLeft = 0;
        this.cuts += 1;
        node.destroy();
      });
      for (const socket of [client, node]) {
        socket.on("error", () => {});
        socket.on("close", () => this.#end(pair));
      }
    });
  }

  /** Open the port; return the URL to connect to. */
  async listen() {
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `ws://127.0.0.1:${this.#server.address().port}/`;
  }

  /** Cut every connection after this many more bytes of the node: most often inside a frame. */
  cutAfter(bytes) {
    for (const pair of this.#pairs) {
      if (bytes > 0) {
        pair.bytesLeft = Math.min(pair.bytesLeft, bytes);
      } else {
        this.cuts += 1;
        this.#end(pair);
      }
    }
  }

  close() {
    for (const pair of this.#pairs) this.#end(pair);
    return new Promise((resolve) => this.#server.close(resolve));
  }

  #end(pair) {
    if (!this.#pairs.delete(pair)) return;
    pair.client.resetAndDestroy();
    pair.node.destroy();
  }
}
