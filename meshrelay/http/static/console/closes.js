/** The page "Disconnects": why connections and sessions ended. */

import { byId } from "./dom.js";
import { clock, number } from "./format.js";
import { makeTable } from "./tables.js";

const MEANINGS = {
  draining: "the node stopped; clients go to another one",
  idle: "nothing was heard from the client for too long",
  slow_consumer: "the client did not read as fast as others sent",
  moved: "another node has the session; a client that did not go there comes back",
  internal: "an error inside the node; its log has it",
  replaced: "a newer sign-in of the same user took over",
  bad_token: "the sign-in was refused",
  protocol_error: "the client did not follow the protocol",
  frame_too_large: "a frame was over max_payload_bytes",
  kicked: "the application or an operator removed the user",
  hello_timeout: "the client connected and said nothing",
  rate_limited: "too many commands for too long",
  goodbye: "the client left",
  lost: "the connection broke",
};

export const makeCloses = () => {
  const counts = makeTable(
    byId("close-counts"),
    "Connections closed, by reason",
    [
      { name: "Reason", kind: "short", of: (row) => row.reason },
      { name: "By", kind: "short", of: (row) => row.transport },
      { name: "Last 10 min", kind: "number", of: (row) => number(row.recent) },
      { name: "Since start", kind: "number", of: (row) => number(row.total) },
      { name: "What it means", kind: "wide", of: (row) => MEANINGS[row.reason] ?? "–" },
    ],
    "No connection was closed yet.",
  );
  const ended = makeTable(
    byId("ended"),
    "Sessions that ended last",
    [
      { name: "When", kind: "short", of: (row) => clock(row.at) },
      { name: "User", of: (row) => row.user },
      { name: "By", kind: "short", of: (row) => row.transport },
      { name: "Reason", kind: "short", of: (row) => row.reason },
      { name: "Text", kind: "wide", of: (row) => row.text },
    ],
    "No session has ended yet.",
  );

  return (state) => {
    counts({ count: state.closes.length, rows: state.closes });
    ended({ count: state.ended.length, rows: state.ended });
  };
};
