// The operations page says so when its news stop: what it shows then is old.
function lost(hidden) {
  const note = document.querySelector("[data-lost]");
  if (note) note.hidden = hidden;
}

function ours(event) {
  return event.target instanceof Element && event.target.matches("[data-operations]");
}

document.addEventListener("htmx:response:error", (event) => ours(event) && lost(false));
document.addEventListener("htmx:error", (event) => ours(event) && lost(false));
document.addEventListener("htmx:after:swap", (event) => ours(event) && lost(true));
