/** The admin key, and the ticket that it is good for. The key is kept for this tab alone. */

const KEY = "meshrelay-admin-key";

export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** The node does not let this page in. */
export class Refused extends Error {
  /** @param {number} status of HTTP: 401 = a key is needed, 403 = none helps, 429 = later */
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const ask = async (path, method) => {
  const key = sessionStorage.getItem(KEY);
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  const answer = await fetch(path, { method, headers, cache: "no-store", credentials: "omit" });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.error ?? `HTTP status ${answer.status}`);
  return body;
};

/** Return {url, user, token}: how to sign in at the node's WebSocket, once. */
export const getTicket = () => ask("/admin/console/ticket", "POST");

/** Return what CONSOLE_WATCH answers. */
export const getState = () => ask("/admin/console/state", "GET");
