// Messages in the page's live region, which screen readers announce.
const SHOWN_MS = 8000;
const TOASTS_MAX = 4;

export function toast(title, text, href = "") {
  const region = document.getElementById("toasts");
  const card = document.createElement(href ? "a" : "div");
  card.className = "toast-card";
  if (href) card.href = href;
  const words = document.createElement("span");
  const strong = document.createElement("span");
  strong.className = "block font-medium tabular";
  strong.textContent = title;
  words.append(strong);
  if (text) {
    const more = document.createElement("span");
    more.className = "block text-sm text-muted";
    more.textContent = text;
    words.append(more);
  }
  card.append(words);
  region.append(card);
  while (region.childElementCount > TOASTS_MAX) region.firstElementChild.remove();
  setTimeout(() => card.remove(), SHOWN_MS);
}
