// The transfer form: asks the server what a transfer would cost while it is typed, and fills in
// the other side. The review: shows how long the rate is held, then offers a new one.
let pause;
let typed = "amount";

function ask(form, delay) {
  clearTimeout(pause);
  const quote = form.querySelector("#quote");
  pause = setTimeout(() => quote.dispatchEvent(new CustomEvent("quote")), delay);
}

function otherSide() {
  return typed === "amount" ? "receive" : "amount";
}

function showUnits(form) {
  const currency = (name) => form.elements[name]?.selectedOptions?.[0]?.dataset.currency ?? "";
  form.querySelector("[data-unit=amount]").textContent = currency("from");
  if (form.elements.to.tagName === "SELECT") {
    form.querySelector("[data-unit=receive]").textContent = currency("to");
  }
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("[data-transfer]");
  if (!form || !event.target.matches("[data-quote]")) return;
  if (event.target.name === "amount" || event.target.name === "receive") {
    typed = event.target.name;
  } else {
    showUnits(form);
  }
  // What stands on the other side was worked out for what has just been changed.
  form.elements[otherSide()].value = "";
  ask(form, event.target.tagName === "SELECT" ? 0 : 300);
});

// What is sent is the side that was typed: the server works out the other one.
document.addEventListener(
  "submit",
  (event) => {
    const form = event.target;
    if (form.matches("[data-transfer]") && typed === "receive") form.elements.amount.value = "";
  },
  { capture: true },
);

document.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-fill-to]");
  const form = document.querySelector("[data-transfer]");
  if (!chip || !form) return;
  event.preventDefault();
  form.elements.to.value = chip.dataset.fillTo;
  form.elements.to.dispatchEvent(new Event("input", { bubbles: true }));
  form.elements.amount.focus();
});

function showQuote() {
  const quote = document.querySelector("#quote [data-quote-amount]");
  const form = quote?.closest("[data-transfer]");
  if (!form) return;
  const { quoteAmount, quoteReceive, quoteUnit } = quote.dataset;
  form.elements[otherSide()].value = typed === "amount" ? quoteReceive : quoteAmount;
  form.querySelector("[data-unit=receive]").textContent = quoteUnit;
}

function prepareForm() {
  const form = document.querySelector("[data-transfer]:not([data-ready])");
  if (!form) return;
  form.dataset.ready = "";
  const { amount, receive, to } = form.elements;
  typed = !amount.value && receive.value ? "receive" : "amount";
  showUnits(form);
  if (to.value && (amount.value || receive.value)) ask(form, 0);
}

// The server's clock may differ from ours: count the seconds from when the page came.
function prepareReview() {
  const held = document.querySelector("[data-quote-seconds]:not([data-ready])");
  if (!held) return;
  held.dataset.ready = "";
  const until = performance.now() + Number(held.dataset.quoteSeconds) * 1000 - 1500;
  const text = held.querySelector("[data-quote-text]");
  const tick = () => {
    if (!held.isConnected) return;
    const left = Math.ceil((until - performance.now()) / 1000);
    if (left > 0) {
      text.textContent = `The rate is held for ${left} more ${left === 1 ? "second" : "seconds"}.`;
      setTimeout(tick, 250);
      return;
    }
    const form = held.closest("form");
    const send = form.querySelector("[data-submit]");
    if (send.disabled || form.classList.contains("is-sending")) return;
    text.textContent = "The rate is no longer held.";
    const renew = form.querySelector("[data-requote]");
    send.hidden = true;
    renew.className = send.className;
    renew.removeAttribute("aria-hidden");
    renew.removeAttribute("tabindex");
  };
  tick();
}

function prepare() {
  prepareForm();
  prepareReview();
}

document.addEventListener("htmx:after:swap", () => {
  showQuote();
  prepare();
});
prepare();
