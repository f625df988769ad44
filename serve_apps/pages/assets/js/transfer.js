// The transfer form: asks the server what a transfer would cost while it is typed, and fills in
// the other side. The review page: shows how long the rate is held, then asks for a new one.
let pause;
let typed = "amount";

function ask(form, delay) {
  clearTimeout(pause);
  pause = setTimeout(() => form.dispatchEvent(new CustomEvent("quote")), delay);
}

function showUnits(form) {
  const currency = (name) =>
    form.elements[name]?.selectedOptions?.[0]?.dataset.currency ?? "";
  form.querySelector("[data-unit=amount]").textContent = currency("from");
  if (form.elements.to.tagName === "SELECT") {
    form.querySelector("[data-unit=receive]").textContent = currency("to");
  }
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("[data-transfer]");
  if (!form || !event.target.matches("[data-quote]")) return;
  const name = event.target.name;
  if (name === "amount" || name === "receive") {
    typed = name;
    form.elements[name === "amount" ? "receive" : "amount"].value = "";
  } else {
    // The other side belongs to the accounts chosen before.
    form.elements[typed === "amount" ? "receive" : "amount"].value = "";
    showUnits(form);
  }
  ask(form, event.target.tagName === "SELECT" ? 0 : 300);
});

document.addEventListener("htmx:after:swap", () => {
  const quote = document.querySelector("#quote [data-quote-amount]");
  const form = quote?.closest("[data-transfer]");
  if (!form) return;
  const other = typed === "amount" ? "receive" : "amount";
  form.elements[other].value = typed === "amount" ? quote.dataset.quoteReceive : quote.dataset.quoteAmount;
  form.querySelector("[data-unit=receive]").textContent = quote.dataset.quoteUnit;
});

// What is sent is the side that was typed: the server works out the other one.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-transfer]") && typed === "receive") form.elements.amount.value = "";
});

document.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-fill-to]");
  const form = document.querySelector("[data-transfer]");
  if (!chip || !form) return;
  event.preventDefault();
  form.elements.to.value = chip.dataset.fillTo;
  form.elements.to.dispatchEvent(new Event("input", { bubbles: true }));
  form.elements.amount.focus();
});

const open = document.querySelector("[data-transfer]");
if (open) {
  if (!open.elements.amount.value && open.elements.receive.value) typed = "receive";
  showUnits(open);
  if (open.elements.to.value && (open.elements.amount.value || open.elements.receive.value)) {
    ask(open, 0);
  }
}

// The server's clock may differ from ours: count the seconds from when the page was made.
const held = document.querySelector("[data-quote-ends]");
if (held) {
  const until = performance.now() + Number(held.dataset.quoteSeconds) * 1000 - 1500;
  const text = held.querySelector("[data-quote-text]");
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    if (left > 0) {
      text.textContent = `The rate is held for ${left} more ${left === 1 ? "second" : "seconds"}.`;
      setTimeout(tick, 250);
      return;
    }
    const form = held.closest("form");
    if (form.classList.contains("is-sending")) return;
    text.textContent = "The rate is no longer held.";
    const send = form.querySelector("button[type=submit]");
    const renew = form.querySelector("[data-requote]");
    send.disabled = true;
    renew.className = "btn btn-primary btn-lg";
    renew.removeAttribute("aria-hidden");
    renew.removeAttribute("tabindex");
  };
  tick();
}
