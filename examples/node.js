/**
 * Where the node of the examples is. The node serves the client itself, so that the two always fit.
 * Change the two addresses when your node is elsewhere.
 */
export * from "http://127.0.0.1:7000/meshrelay.js";

export const NODE_URL = "ws://127.0.0.1:7300/";
