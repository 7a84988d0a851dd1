/** Which page of the console is shown: the first part of what stands behind the # of the address. */

const names = () => [...document.querySelectorAll("[data-view]")].map((view) => view.dataset.view);

export const pageOf = (hash) => {
  const name = hash.replace(/^#/, "").split("/")[0];
  return names().includes(name) ? name : "overview";
};

const show = (name) => {
  for (const view of document.querySelectorAll("[data-view]")) view.hidden = view.dataset.view !== name;
  for (const link of document.querySelectorAll("[data-page]")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = document.getElementById(`${name}-title`);
  document.title = `${title.textContent} – meshrelay console`;
  return title;
};

/** Show pages as the address says, and tell `changed(name)`. */
export const startPages = (changed) => {
  let shown = pageOf(location.hash);
  show(shown);
  addEventListener("hashchange", () => {
    // "Skip to the content" is no page.
    if (location.hash === "#main") return;
    const wanted = pageOf(location.hash);
    if (wanted === shown) return;
    shown = wanted;
    // Readers of the screen hear where they are.
    show(shown).focus();
    changed(shown);
  });
  return () => shown;
};
