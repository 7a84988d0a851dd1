/** A list of the node's state -> a table that people can scroll by keyboard. Rows stay where they are and change their text. */

import { element, say } from "./dom.js";

/**
 * @param {HTMLElement} target an empty element
 * @param {string} title
 * @param {Array<{name: string, kind?: string, of: (row: object) => string, look?: (row: object) => string, full?: (row: object) => string}>} columns
 *   `kind` is a class of the cells, `look` one of the cell of this row, `full` what a short text stands for
 * @param {string} empty what is said when there are no rows
 * @returns {(list: {count: number, rows: object[]}) => void}
 */
export const makeTable = (target, title, columns, empty) => {
  const left = element("span", { class: "quiet" });
  const body = element("tbody");
  const head = element("tr", {}, ...columns.map(({ name, kind = "" }) => element("th", { scope: "col", class: kind === "number" ? kind : null }, name)));
  const table = element("table", {}, element("caption", {}, `${title} `, left), element("thead", {}, head), body);
  // What can be scrolled must be reachable without a mouse.
  target.append(element("div", { class: "table", tabindex: 0, role: "region", "aria-label": title }, table));

  const emptyRow = element("tr", {}, element("td", { colspan: columns.length, class: "quiet" }, empty));

  return ({ count, rows }) => {
    say(left, count > rows.length ? `${rows.length} of ${count}` : `${count}`);
    if (rows.length === 0) {
      if (body.firstElementChild !== emptyRow || body.children.length > 1) body.replaceChildren(emptyRow);
      return;
    }
    emptyRow.remove();
    while (body.children.length > rows.length) body.lastElementChild.remove();
    rows.forEach((row, at) => {
      let line = body.children[at];
      if (line === undefined) body.append((line = element("tr", {}, ...columns.map(() => element("td")))));
      columns.forEach(({ kind = "", of, look = () => "", full }, place) => {
        const cell = line.children[place];
        const wanted = `${kind} ${look(row)}`.trim();
        if (cell.className !== wanted) cell.className = wanted;
        if (full) cell.title = full(row);
        say(cell, of(row));
      });
    });
  };
};
