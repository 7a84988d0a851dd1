/** Light, dark, or as the system says. */

const KEY = "meshrelay-theme";
const THEMES = ["auto", "light", "dark"];

const stored = () => {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // pages may be denied a memory
  }
};

const apply = (theme, button) => {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.textContent = `Theme: ${theme}`;
};

export const startTheme = (button) => {
  let theme = THEMES.includes(stored()) ? stored() : "auto";
  apply(theme, button);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    apply(theme, button);
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // as above: this page knows it, the next one will not
    }
  });
};
