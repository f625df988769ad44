// The operations page says so when its news stop: what it shows then is old.
function news(event, arrived) {
  const note = document.querySelector("[data-lost]");
  const ours = event.target instanceof Element && event.target.matches("[data-operations]");
  if (note && ours) note.hidden = arrived;
}

document.addEventListener("htmx:after:request", (event) => {
  news(event, event.detail.ctx.response.status < 400);
});
document.addEventListener("htmx:error", (event) => news(event, false));
