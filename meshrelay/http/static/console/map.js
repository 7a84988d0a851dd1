/** The nodes of the cluster on a circle, and the links between them. The same node always has the same place. */

import { duration, milliseconds, number } from "./format.js";
import { shape } from "./dom.js";

const SIZE = 460;
const MIDDLE = SIZE / 2;
const RADIUS = 165;
/** From the middle of a node to the end of its name and of the line below it, and to its edge. */
const NAME_SPACE = 62;
const EDGE_SPACE = 32;

const STATES = { ready: "good", starting: "warn", draining: "warn" };

export const lookOf = (state) => STATES[state] ?? "bad";

const places = (nodes) => {
  const ids = nodes.map((node) => node.id).sort();
  if (ids.length === 1) return new Map([[ids[0], [MIDDLE, MIDDLE]]]);
  return new Map(
    ids.map((id, at) => {
      const angle = (at / ids.length) * 2 * Math.PI - Math.PI / 2;
      return [id, [MIDDLE + RADIUS * Math.cos(angle), MIDDLE + RADIUS * Math.sin(angle)]];
    }),
  );
};

/** Each pair once: a link is up when both ends that speak say so. */
const linksOf = (nodes) => {
  const links = new Map();
  for (const node of nodes) {
    for (const link of node.links) {
      const key = [node.id, link.to].sort();
      const found = links.get(key.join("\n")) ?? { ends: key, isUp: true, rtt: null };
      found.isUp &&= link.state === "up";
      found.rtt = link.rtt_ms ?? found.rtt;
      links.set(key.join("\n"), found);
    }
  }
  return [...links.values()];
};

const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

export const makeMap = (target) => {
  const svg = shape("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img" });
  target.append(svg);

  return (nodes, own) => {
    const at = places(nodes);
    const links = linksOf(nodes).filter(({ ends }) => ends.every((end) => at.has(end)));
    const isCrowded = nodes.length > 12;
    const drawnLinks = links.map(({ ends: [one, other], isUp, rtt }) => {
      const [[x1, y1], [x2, y2]] = [at.get(one), at.get(other)];
      const title = `${one} – ${other}: ${isUp ? `up, ${milliseconds(rtt)}` : "down"}`;
      return shape("line", { class: "link", "data-state": isUp ? "up" : "down", x1, y1, x2, y2 }, shape("title", {}, title));
    });
    const drawnNodes = nodes.map((node) => {
      const [x, y] = at.get(node.id);
      const title = `${node.id}: ${node.state}, ${number(node.users)} users, up ${duration(node.uptime_seconds)}`;
      const ring = { class: "node", "data-state": lookOf(node.state), cx: x, cy: y, r: isCrowded ? 8 : 22 };
      const parts = [shape("title", {}, title), shape("circle", ring)];
      if (node.id === own) parts.push(shape("circle", { class: "own", cx: x, cy: y, r: isCrowded ? 4 : 10 }));
      if (!isCrowded) {
        // Away from the middle, where the links are.
        const below = y < MIDDLE - 1 ? y - 44 : y + 38;
        parts.push(shape("text", { x, y: below }, shorten(node.id, 22)));
        parts.push(shape("text", { x, y: below + 15, class: "quiet" }, node.users === null ? node.state : `${number(node.users)} users`));
      }
      return shape("g", {}, ...parts);
    });
    const heights = [...at.values()].map(([, y]) => y);
    const top = Math.min(...heights) - (Math.min(...heights) < MIDDLE - 1 ? NAME_SPACE : EDGE_SPACE);
    svg.setAttribute("viewBox", `0 ${top} ${SIZE} ${Math.max(...heights) + NAME_SPACE - top}`);
    const down = links.filter((link) => !link.isUp).length;
    const ready = nodes.filter((node) => node.state === "ready").length;
    svg.setAttribute("aria-label", `Map: ${ready} of ${nodes.length} nodes ready, ${links.length - down} links up, ${down} down. The table has the details.`);
    svg.replaceChildren(...drawnLinks, ...drawnNodes);
  };
};
