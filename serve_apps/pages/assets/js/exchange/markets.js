// Lists of instruments: prices as they change. What is listed comes from the page, so that a search
// which replaces the list needs nothing more.
import { change, compact, decimalsOf, direction, shown, units } from "./decimal.js";
import { Feed } from "./feed.js";

function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function show(ticker) {
  const row = document.querySelector(`[data-markets] [data-market="${ticker.s}"]`);
  if (!row) return;
  const decimals = decimalsOf(row.dataset.tick);
  const [now, first] = [units(ticker.c), units(ticker.o)];
  const price = (text) => shown(units(text), decimals);
  write(row.querySelector("[data-last]"), price(ticker.c));
  write(row.querySelector("[data-high]"), price(ticker.h));
  write(row.querySelector("[data-low]"), price(ticker.l));
  write(row.querySelector("[data-turnover]"), compact(units(ticker.q)));
  const moved = row.querySelector("[data-change]");
  if (!moved) return;
  moved.dataset.direction = direction(now, first);
  write(moved, change(now, first));
}

new Feed(["!miniTicker@arr"], {
  event: (stream, data) => data.forEach?.(show),
  opened: () => {},
  state: (state) => {
    const light = document.querySelector("[data-feed-light]");
    if (!light) return;
    light.dataset.state = state;
    write(light, state === "live" ? "Live" : "Reconnecting");
  },
});
