/** Numbers over time -> lines in SVG: up to the last ten minutes, newest at the right. */

import { element, say, shape } from "./dom.js";

const WIDTH = 400;
const HEIGHT = 120;
const LEFT = 52;
const BOTTOM = 16;
const TOP = 6;
/** A node that has just started shows its short past over the whole width. */
const MIN_SPAN_SECONDS = 60;
const MAX_SPAN_SECONDS = 600;

/** The smallest 1, 2 or 5 times a power of ten that is not below `value`. */
export const niceTop = (value) => {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= value);
};

const spanOf = (samples) =>
  Math.min(MAX_SPAN_SECONDS, Math.max(MIN_SPAN_SECONDS, Math.ceil((samples.at(-1).at - samples[0].at) / 60) * 60));

const pathOf = (samples, column, span, top) => {
  const end = samples.at(-1).at;
  let path = "";
  let before = -Infinity;
  for (const sample of samples) {
    const x = WIDTH - ((end - sample.at) / span) * (WIDTH - LEFT);
    if (x < LEFT) continue;
    const y = HEIGHT - BOTTOM - (sample[column] / top) * (HEIGHT - BOTTOM - TOP);
    // Where nothing was heard for a while there is no line.
    path += `${sample.at - before > 5 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    before = sample.at;
  }
  return path;
};

/**
 * @param {HTMLElement} target
 * @param {string} title
 * @param {Array<[string, string]>} series column and name of each line, one or two
 * @param {(value: number) => string} format
 * @returns {(samples: object[]) => void}
 */
export const makePlot = (target, title, series, format) => {
  const values = series.map(([, name], at) => element("span", { class: `key key-${at}` }, name));
  const lines = series.map((_, at) => shape("path", { class: `series series-${at}` }));
  const begin = shape("text", { x: LEFT, y: HEIGHT - 3 });
  const upper = shape("text", { x: LEFT - 4, y: TOP + 8, "text-anchor": "end" });
  const bottom = HEIGHT - BOTTOM;
  const svg = shape(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" },
    shape("path", { class: "grid", d: `M${LEFT} ${TOP}H${WIDTH}M${LEFT} ${(TOP + bottom) / 2}H${WIDTH}M${LEFT} ${bottom}H${WIDTH}` }),
    upper,
    shape("text", { x: LEFT - 4, y: bottom, "text-anchor": "end" }, format(0)),
    begin,
    shape("text", { x: WIDTH, y: HEIGHT - 3, "text-anchor": "end" }, "now"),
    ...lines,
  );
  target.append(element("figure", {}, element("figcaption", {}, element("strong", {}, title), ...values), svg));

  return (samples) => {
    if (samples.length === 0) return;
    const last = samples.at(-1);
    const span = spanOf(samples);
    begin.textContent = `${span / 60} min ago`;
    const top = niceTop(Math.max(0, ...series.flatMap(([column]) => samples.map((sample) => sample[column]))));
    upper.textContent = format(top);
    const told = series.map(([column, name], at) => {
      lines[at].setAttribute("d", pathOf(samples, column, span, top));
      const text = `${name} ${format(last[column])}`;
      say(values[at], text);
      return text;
    });
    svg.setAttribute("aria-label", `${title} over ${span / 60} min, now: ${told.join(", ")}; highest ${format(top)}`);
  };
};
