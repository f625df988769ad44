// Orders may change many times a second: the page asks for all of it together, and not while an
// order is being amended in it.
const GATHER_MS = 150;
const LATER_MS = 1000;
let planned;

export function refreshDesk(delay = GATHER_MS) {
  planned ??= setTimeout(() => {
    planned = undefined;
    if (document.querySelector("#desk details[open]")) refreshDesk(LATER_MS);
    else document.body.dispatchEvent(new CustomEvent("desk-refresh"));
  }, delay);
}
