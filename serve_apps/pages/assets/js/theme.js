// Light or dark: the system's choice until the customer makes one, which a cookie remembers, so
// that the server sends the right colours with the first byte.
const LIGHT = "kontor";
const DARK = "kontor-dark";
const YEAR_S = 365 * 86400;

function current() {
  const chosen = document.documentElement.dataset.theme;
  return chosen || (matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT);
}

for (const button of document.querySelectorAll("[data-theme-toggle]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const theme = current() === DARK ? LIGHT : DARK;
    document.documentElement.dataset.theme = theme;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `theme=${theme}; Path=/; Max-Age=${YEAR_S}; SameSite=Lax${secure}`;
  });
}
