// The ticket: quantity, total and price follow each other while one types. What is shown are
// estimates; the server decides. Listens on the document, as the form is replaced with each order.
import { refreshDesk } from "./desk.js";
import { decimalsOf, plain, shown, trimmed, units } from "./decimal.js";

const UNIT = 100000000n;
const CENT = 1000000n;
const FOLLOWED = ["price", "quantity", "total", "trigger", "type", "side"];
let trade;
let market = () => ({});

function form() {
  return document.querySelector("[data-ticket]");
}

function sideOf(ticket) {
  return ticket.querySelector("input[name=side]:checked").value;
}

function read(ticket, name) {
  const field = ticket.elements[name];
  return field && field.value.trim() ? units(field.value) : null;
}

function put(ticket, name, text) {
  const field = ticket.elements[name];
  if (field.value === text) return;
  field.value = text;
  field.removeAttribute("aria-invalid");
  field.classList.remove("input-error");
  document.getElementById(`${name}-note`)?.remove();
}

// The price that an estimate goes by: what is typed, or for market orders the best of the book.
function priceOf(ticket) {
  const type = ticket.elements.type.value;
  if (type.endsWith("limit") || type === "limit_maker") return read(ticket, "price");
  if (type !== "market") return read(ticket, "trigger");
  const { ask, bid, last } = market();
  return (sideOf(ticket) === "buy" ? ask : bid) ?? last ?? null;
}

function available(ticket, which) {
  return BigInt(ticket.querySelector(`[data-available=${which}]`).dataset.units);
}

// With cents, and with more only where there is more.
function totalText(amount) {
  return plain(amount, 8).replace(/0{1,6}$/, "");
}

function toQuantity(total, price) {
  const lots = (total * UNIT) / price / trade.lot;
  return lots * trade.lot;
}

// From quantity to total or back, whichever was typed last.
function follow(ticket, typed) {
  const price = priceOf(ticket);
  if (!price) return;
  if (typed === "total") {
    const total = read(ticket, "total");
    if (total === null) return;
    put(ticket, "quantity", plain(toQuantity(total, price), decimalsOf(trade.lot)));
  } else {
    const quantity = read(ticket, "quantity");
    put(ticket, "total", quantity === null ? "" : totalText((quantity * price) / UNIT));
  }
}

function tellFee(ticket) {
  const cell = ticket.querySelector("[data-fee]");
  const [price, quantity] = [priceOf(ticket), read(ticket, "quantity")];
  if (!price || !quantity) return;
  const rate = ticket.elements.type.value === "limit_maker" ? trade.maker : trade.taker;
  const buys = sideOf(ticket) === "buy";
  const received = buys ? quantity : (quantity * price) / UNIT;
  const fee = (received * rate + 999999n) / 1000000n;
  cell.textContent = `up to ${trimmed(fee)} ${buys ? trade.base : trade.quote}`;
}

// A part of what is available: of the money where one buys, of the asset where one sells.
function share(ticket, percent) {
  if (sideOf(ticket) === "sell") {
    const lots = (available(ticket, "base") * percent) / 100n / trade.lot;
    put(ticket, "quantity", plain(lots * trade.lot, decimalsOf(trade.lot)));
    follow(ticket, "quantity");
    return;
  }
  const money = (available(ticket, "quote") * percent) / 100n;
  if (ticket.elements.type.value === "market") {
    put(ticket, "total", plain(money - (money % CENT), 2));
    put(ticket, "quantity", "");
    return;
  }
  const price = priceOf(ticket);
  if (!price) {
    ticket.elements.price.focus();
    return;
  }
  put(ticket, "quantity", plain(toQuantity(money, price), decimalsOf(trade.lot)));
  follow(ticket, "quantity");
}

function prepare() {
  const ticket = form();
  if (!ticket || ticket.dataset.ready) return;
  ticket.dataset.ready = "1";
  const shares = ticket.querySelector("[data-shares]");
  shares.hidden = false;
  if (read(ticket, "quantity") !== null) follow(ticket, "quantity");
  tellFee(ticket);
}

// A price of the book goes into the ticket; a market order becomes a limit order by it.
export function take(price, side) {
  const ticket = form();
  if (ticket.elements.type.value === "market") ticket.elements.type.value = "limit";
  put(ticket, "price", price);
  const radio = ticket.querySelector(`input[name=side][value=${side}]`);
  if (read(ticket, "quantity") === null) radio.checked = true;
  follow(ticket, "quantity");
  tellFee(ticket);
  const view = document.querySelector("[name=view][value=ticket]");
  if (!matchMedia("(width >= 64rem)").matches) view.checked = true;
  ticket.elements.quantity.focus({ preventScroll: true });
}

export function setAvailable(base, quote) {
  const ticket = form();
  if (!ticket) return;
  for (const [which, amount] of [["base", base], ["quote", quote]]) {
    const cell = ticket.querySelector(`[data-available=${which}]`);
    if (cell.dataset.units === amount) continue;
    cell.dataset.units = amount;
    const money = which === "quote";
    const text = money ? shown(BigInt(amount), 2) : trimmed(BigInt(amount));
    cell.textContent = `${text} ${trade[which]}`;
  }
}

export function openTicket(settings, prices) {
  trade = { ...settings, tick: BigInt(settings.tick), lot: BigInt(settings.lot) };
  trade.maker = BigInt(settings.maker);
  trade.taker = BigInt(settings.taker);
  market = prices;
  document.addEventListener("input", (event) => {
    const ticket = event.target.closest("[data-ticket]");
    if (!ticket) return;
    if (event.target.name === "total" && ticket.elements.type.value === "market") {
      put(ticket, "quantity", ""); // a market order is for one of the two
    } else if (event.target.name === "quantity" && ticket.elements.type.value === "market") {
      put(ticket, "total", "");
    } else if (FOLLOWED.includes(event.target.name)) {
      follow(ticket, event.target.name);
    }
    tellFee(ticket);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-share]");
    if (!button) return;
    const ticket = button.closest("[data-ticket]");
    share(ticket, BigInt(button.dataset.share));
    tellFee(ticket);
  });
  document.addEventListener("htmx:after:swap", () => {
    const ticket = form();
    if (!ticket || ticket.dataset.ready) return;
    prepare();
    const wrong = ticket.querySelector("[aria-invalid=true]");
    const button = [...ticket.querySelectorAll("[data-submit]")].find((one) => one.offsetParent);
    (wrong ?? button)?.focus({ preventScroll: true });
    refreshDesk();
  });
  prepare();
}
