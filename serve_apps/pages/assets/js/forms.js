// Small conveniences of forms, menus and long numbers.
import { toast } from "./toast.js";

// A form that moves something is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]")) return;
  if (form.classList.contains("is-sending")) {
    event.preventDefault();
    return;
  }
  form.classList.add("is-sending");
  form.setAttribute("aria-busy", "true");
});

// What was wrong with a field is no longer said once the field is changed.
document.addEventListener("input", (event) => {
  const field = event.target;
  if (field.getAttribute("aria-invalid") !== "true") return;
  field.removeAttribute("aria-invalid");
  field.classList.remove("input-error", "select-error");
  document.getElementById(`${field.name}-note`)?.remove();
});

// Coming back with the back button finds the form usable again, and so does an answer that
// changes a part of the page.
function release() {
  for (const form of document.querySelectorAll(".is-sending")) {
    form.classList.remove("is-sending");
    form.removeAttribute("aria-busy");
  }
}
addEventListener("pageshow", release);
document.addEventListener("htmx:after:request", (event) => {
  if (event.target.closest?.(".is-sending")) release();
});
document.addEventListener("htmx:error", release);

// Menus close on Escape and on a click elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A message that was shown is not shown again when the page is loaded again.
const address = new URL(location.href);
if (address.searchParams.has("notice")) {
  address.searchParams.delete("notice");
  history.replaceState(history.state, "", address);
}

// Copy buttons appear where the browser can copy.
function revealCopyButtons() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
}
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  toast("Copied", "");
});
document.addEventListener("htmx:after:swap", (event) => {
  revealCopyButtons();
  // A whole new step: start reading at its top.
  if (event.detail.ctx.target?.id !== "main") return;
  document.getElementById("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
revealCopyButtons();

// A request of htmx that found nobody: say so, and leave the page as it is.
document.addEventListener("htmx:error", () => {
  toast("Kontor cannot be reached", "Check your connection, then try again.");
});

// The history follows its filters while they are changed; typing waits for a pause.
let pause;
document.addEventListener("input", (event) => {
  const form = event.target.form;
  if (!form?.matches("[data-filter]")) return;
  clearTimeout(pause);
  const typed = event.target.matches("input:not([type=date])");
  pause = setTimeout(() => form.dispatchEvent(new CustomEvent("filter")), typed ? 400 : 0);
});
