/** Elements made and filled. Text only ever becomes text: IDs are what strangers chose. */

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

const fill = (made, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
};

export const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

export const shape = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** Write `text` where it is not there already: a screen reader says again whatever is written again. */
export const say = (target, text) => {
  if (target.textContent !== text) target.textContent = text;
};

/** Fill a list of terms: pairs of what and how much. */
export const figures = (target, pairs) => {
  while (target.children.length > pairs.length) target.lastElementChild.remove();
  pairs.forEach(([term, value], at) => {
    let entry = target.children[at];
    if (entry === undefined) target.append((entry = element("div", {}, element("dt"), element("dd"))));
    say(entry.children[0], term);
    say(entry.children[1], String(value));
  });
};
