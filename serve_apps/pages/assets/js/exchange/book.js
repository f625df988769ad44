// The order book: the server's snapshot, and every change after it, in order, without a gap.
import { ask } from "./feed.js";
import { decimalsOf, plain, shown, units } from "./decimal.js";

const LEVEL_PX = 20;
const LEVELS_MIN = 8;
const LEVELS_MAX = 40;
const GROUPS = [1, 2, 5, 10, 20, 50, 100, 500, 1000, 10000];
const GROUPS_SHOWN = 6;
const RETRY_MS = 1000;

class Side {
  constructor(list, kind, book) {
    this.list = list;
    this.kind = kind;
    this.book = book;
    this.levels = new Map();
    this.rows = [];
  }

  set(changes) {
    for (const [price, quantity] of changes) {
      const ticks = Number(units(price) / this.book.tick);
      const lots = Number(units(quantity) / this.book.lot);
      if (lots) this.levels.set(ticks, lots);
      else this.levels.delete(ticks);
    }
  }

  // The best levels, put together by the chosen width: [price, quantity, sum so far].
  best(count) {
    const group = this.book.group;
    const asks = this.kind === "ask";
    const sums = new Map();
    for (const [ticks, lots] of this.levels) {
      const price = asks ? Math.ceil(ticks / group) * group : Math.floor(ticks / group) * group;
      sums.set(price, (sums.get(price) ?? 0) + lots);
    }
    const prices = [...sums.keys()].sort((a, b) => (asks ? a - b : b - a)).slice(0, count);
    let sum = 0;
    return prices.map((price) => [price, sums.get(price), (sum += sums.get(price))]);
  }

  draw(levels, most) {
    const shownLevels = this.kind === "ask" ? [...levels].reverse() : levels;
    while (this.rows.length > shownLevels.length) this.rows.pop().remove();
    while (this.rows.length < shownLevels.length) this.rows.push(this.add());
    shownLevels.forEach((level, place) => this.book.fill(this.rows[place], this.kind, level, most));
  }

  add() {
    const row = this.book.template.cloneNode(true);
    this.list.append(row);
    return row;
  }
}

export class Book {
  constructor(root, { symbol, tick, lot }) {
    this.root = root;
    this.symbol = symbol;
    this.tick = BigInt(tick);
    this.lot = BigInt(lot);
    this.priceDecimals = decimalsOf(tick);
    this.quantityDecimals = decimalsOf(lot);
    this.group = 1;
    this.mine = new Set();
    this.template = makeRow();
    this.asks = new Side(root.querySelector("[data-asks]"), "ask", this);
    this.bids = new Side(root.querySelector("[data-bids]"), "bid", this);
    this.pending = [];
    this.last = null;
    this.asking = 0;
    this.offerGroups();
    addEventListener("resize", () => this.later());
  }

  offerGroups() {
    const select = this.root.querySelector("[data-grouping]");
    const steps = GROUPS.slice(0, GROUPS_SHOWN + 2).filter((step) => step !== 2);
    for (const step of steps) {
      const text = shown(this.tick * BigInt(step), this.priceDecimals);
      select.append(new Option(text, step));
    }
    select.hidden = false;
    select.addEventListener("change", () => {
      this.group = Number(select.value);
      this.later();
    });
  }

  // Start again from a snapshot: after each connection, and when a change is missing.
  async restart() {
    const asked = ++this.asking;
    this.last = null;
    this.pending = [];
    try {
      const snapshot = await ask("/api/v3/depth", { symbol: this.symbol, limit: 1000 });
      if (asked === this.asking) this.begin(snapshot);
    } catch {
      setTimeout(() => asked === this.asking && this.restart(), RETRY_MS);
    }
  }

  begin(snapshot) {
    this.asks.levels.clear();
    this.bids.levels.clear();
    this.asks.set(snapshot.asks);
    this.bids.set(snapshot.bids);
    this.last = snapshot.lastUpdateId;
    const waiting = this.pending;
    this.pending = [];
    for (const change of waiting) this.change(change);
    this.later();
  }

  change(change) {
    if (this.last === null) {
      this.pending.push(change);
      return;
    }
    if (change.u <= this.last) return;
    if (change.U > this.last + 1) {
      this.restart();
      return;
    }
    this.last = change.u;
    this.asks.set(change.a);
    this.bids.set(change.b);
    this.later();
  }

  later() {
    if (this.planned) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      if (this.last !== null) this.draw();
    });
  }

  draw() {
    const room = Math.floor(this.bids.list.clientHeight / LEVEL_PX);
    const wide = matchMedia("(width >= 64rem)").matches;
    const count = wide ? Math.min(Math.max(room, LEVELS_MIN), LEVELS_MAX) : 10;
    const asks = this.asks.best(count);
    const bids = this.bids.best(count);
    const most = Math.max(asks.at(-1)?.[2] ?? 0, bids.at(-1)?.[2] ?? 0, 1);
    if (!this.drawn) {
      this.asks.list.replaceChildren();
      this.bids.list.replaceChildren();
      this.drawn = true;
    }
    this.asks.draw(asks, most);
    this.bids.draw(bids, most);
    const [ask, bid] = [Math.min(...this.asks.levels.keys()), Math.max(...this.bids.levels.keys())];
    this.bestAsk = Number.isFinite(ask) ? ask : null;
    this.bestBid = Number.isFinite(bid) ? bid : null;
    const both = this.bestAsk !== null && this.bestBid !== null;
    const spread = both ? BigInt(this.bestAsk - this.bestBid) * this.tick : null;
    const text = both ? shown(spread, this.priceDecimals) : "–";
    write(this.root.querySelector("[data-spread]"), text);
    const empty = this.root.querySelector("[data-book-empty]");
    if (empty) empty.hidden = ask !== Infinity || bid !== -Infinity;
  }

  fill(row, kind, [price, quantity, sum], most) {
    const link = row.firstElementChild;
    const [bar, priceCell, quantityCell, sumCell] = link.children;
    const exact = plain(BigInt(price) * this.tick, this.priceDecimals);
    if (link.dataset.price !== exact || link.dataset.kind !== kind) {
      link.dataset.price = exact;
      link.dataset.kind = kind;
      link.className = `level level-${kind}`;
      const side = kind === "ask" ? "buy" : "sell";
      link.href = `/trade/${this.symbol}?price=${exact}&side=${side}#ticket`;
      write(priceCell, shown(BigInt(price) * this.tick, this.priceDecimals));
    }
    link.classList.toggle("level-mine", this.mine.has(price));
    write(quantityCell, shown(BigInt(quantity) * this.lot, this.quantityDecimals));
    write(sumCell, shown(BigInt(sum) * this.lot, this.quantityDecimals));
    const width = String(Math.round((sum / most) * 1000));
    const rect = bar.firstElementChild;
    if (rect.getAttribute("width") !== width) {
      rect.setAttribute("width", width);
      rect.setAttribute("x", String(1000 - Number(width)));
    }
  }
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function makeRow() {
  const row = document.createElement("li");
  const link = document.createElement("a");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  svg.setAttribute("class", "level-bar");
  svg.setAttribute("viewBox", "0 0 1000 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  rect.setAttribute("height", "10");
  svg.append(rect);
  const cells = ["", "", "level-total"].map((name) => {
    const cell = document.createElement("span");
    if (name) cell.className = name;
    return cell;
  });
  link.append(svg, ...cells);
  row.append(link);
  return row;
}
