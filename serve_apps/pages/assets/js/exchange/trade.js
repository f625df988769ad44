// The trading page: prices, book, trades and candles as they happen.
import { Book } from "./book.js";
import { Chart } from "./chart.js";
import { change, compact, decimalsOf, direction, shown, units } from "./decimal.js";
import { refreshDesk } from "./desk.js";
import { Feed } from "./feed.js";
import { openTicket, setAvailable, take } from "./ticket.js";

const PRINTS_MAX = 60;
const STATES = { TRADING: "trading", HALTED: "halted", AUCTION: "auction" };
const root = document.querySelector("[data-trade]");
const settings = { ...root.dataset };
const { symbol } = settings;
const name = symbol.toLowerCase();
const tick = BigInt(settings.tick);
const priceDecimals = decimalsOf(settings.tick);
const quantityDecimals = decimalsOf(settings.lot);
const find = (what) => root.querySelector(`[data-${what}]`);

let interval = root.querySelector("[data-interval][aria-current]").dataset.interval;
let last = null;
const book = new Book(root, settings);
const chart = new Chart(find("chart"), find("legend"), { ...settings, interval });

function price(amount) {
  return shown(amount, priceDecimals);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showLast(text) {
  const now = units(text);
  const element = find("last");
  if (last !== null && now !== last) element.dataset.direction = direction(now, last);
  last = now;
  write(element, price(now));
  write(find("book-last"), price(now));
  document.title = `${price(now)} ${settings.base}/${settings.quote} · Kontor`;
}

function showTicker(ticker) {
  const [now, first] = [units(ticker.c), units(ticker.o)];
  showLast(ticker.c);
  for (const element of root.querySelectorAll(".quote-bar > :not(details) [data-change]")) {
    element.dataset.direction = direction(now, first);
    write(element, change(now, first));
  }
  write(find("high"), price(units(ticker.h)));
  write(find("low"), price(units(ticker.l)));
  write(find("volume"), compact(units(ticker.v)));
  write(find("turnover"), compact(units(ticker.q)));
}

// Trades come faster than they can be read: they are drawn once a frame.
let arrived = [];
function showTrade(trade) {
  arrived.push(trade);
  if (arrived.length > 1) return;
  requestAnimationFrame(() => {
    const fresh = arrived.slice(-PRINTS_MAX).reverse().map(print);
    arrived = [];
    const list = find("prints");
    find("prints-none").hidden = true;
    list.prepend(...fresh);
    while (list.childElementCount > PRINTS_MAX) list.lastElementChild.remove();
  });
}

function print(trade) {
  const row = document.createElement("li");
  row.className = "print";
  row.dataset.side = trade.m ? "sell" : "buy";
  const at = new Date(trade.T);
  const texts = [price(units(trade.p)), shown(units(trade.q), quantityDecimals)];
  const cells = [...texts, at.toISOString().slice(11, 19)].map((text) => {
    const cell = document.createElement("span");
    cell.textContent = text;
    return cell;
  });
  cells[0].className = "print-price";
  cells[2].className = "text-muted";
  row.append(...cells);
  return row;
}

// What a banner says is the server's to word: the page asks for it.
async function showState(event) {
  const state = STATES[event.state] ?? "halted";
  if (state === root.dataset.state) return;
  root.dataset.state = state;
  const banner = find("banner");
  if (state === "trading") {
    banner.hidden = true;
    return;
  }
  // Another replica may answer, which hears of it a moment later.
  for (let wait = 100; wait < 10_000 && root.dataset.state === state; wait *= 2) {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const worded = page.querySelector("[data-banner]");
    if (worded && !worded.hidden && root.dataset.state === state) {
      banner.replaceChildren(...worded.childNodes);
      banner.hidden = false;
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

const handlers = {
  depthUpdate: (event) => book.change(event),
  trade: (event) => {
    showLast(event.p);
    showTrade(event);
  },
  "24hrTicker": showTicker,
  kline: (event) => chart.update(event.k),
  instrumentState: showState,
};

function light(state) {
  const element = find("feed-light");
  element.dataset.state = state;
  write(element, state === "live" ? "Live" : "Reconnecting");
}

const feed = new Feed(
  ["depth@100ms", "trade", "ticker", "state", `kline_${interval}`].map((what) => `${name}@${what}`),
  {
    event: (stream, data) => handlers[data.e]?.(data),
    opened: () => {
      book.restart();
      chart.load();
      refreshDesk();
    },
    state: light,
  },
);

openTicket(settings, () => ({
  ask: book.bestAsk == null ? null : BigInt(book.bestAsk) * tick,
  bid: book.bestBid == null ? null : BigInt(book.bestBid) * tick,
  last,
}));

document.addEventListener("click", (event) => {
  const level = event.target.closest(".level");
  const width = event.target.closest("[data-interval]");
  if (event.ctrlKey || event.metaKey) return;
  if (level) {
    event.preventDefault();
    take(level.dataset.price, level.classList.contains("level-ask") ? "buy" : "sell");
  } else if (width) {
    event.preventDefault();
    choose(width);
  }
});

function choose(width) {
  const fresh = width.dataset.interval;
  feed.replace(`${name}@kline_${interval}`, `${name}@kline_${fresh}`);
  interval = fresh;
  for (const link of root.querySelectorAll("[data-interval]")) link.removeAttribute("aria-current");
  width.setAttribute("aria-current", "true");
  history.replaceState(history.state, "", width.href);
  chart.load(fresh);
}

// The list of instruments is searched as one types.
const search = find("pair-search");
search.addEventListener("input", () => {
  const wanted = search.value.trim().toLowerCase();
  let found = 0;
  for (const item of find("pairs").children) {
    item.hidden = !item.dataset.words.includes(wanted);
    found += item.hidden ? 0 : 1;
  }
  find("pairs-none").hidden = found > 0;
});
find("switcher").addEventListener("toggle", (event) => {
  if (event.target.open) search.focus();
});

// What is open of one's own: how many, at which prices, and what is left to trade with.
function readDesk() {
  const open = root.querySelector("[data-desk=open]");
  if (!open) return;
  write(find("open-count"), open.dataset.count === "0" ? "" : open.dataset.count);
  setAvailable(open.dataset.availableBase, open.dataset.availableQuote);
  book.mine = new Set();
  for (const row of open.querySelectorAll(`[data-own-price][data-own-symbol="${symbol}"]`)) {
    book.mine.add(Number(row.dataset.ownPrice));
  }
  book.later();
}
document.addEventListener("htmx:after:swap", readDesk);
readDesk();
