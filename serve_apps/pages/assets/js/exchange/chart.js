// Candles and volume. Colours are the page's, and follow it from light to dark.
import {
  CandlestickSeries,
  createChart,
  CrosshairMode,
  HistogramSeries,
} from "../../vendor/lightweight-charts.esm.min.js";
import { ask } from "./feed.js";
import { compact, decimalsOf, shown, units } from "./decimal.js";

const CANDLES = 500;
const NEAR_THE_START = 20;
const SHOWN_MIN = 40;

// The chart understands rgb only: let a canvas translate.
const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext(
  "2d",
  { willReadFrequently: true },
);
function colour(name, alpha = 1) {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(`--color-${name}`);
  pen.fillRect(0, 0, 1, 1);
  const [red, green, blue] = pen.getImageData(0, 0, 1, 1).data;
  return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}

export class Chart {
  constructor(box, legend, { symbol, tick, lot, interval }) {
    this.box = box;
    this.legend = legend;
    this.symbol = symbol;
    this.interval = interval;
    this.decimals = decimalsOf(tick);
    this.lot = BigInt(lot);
    this.rows = [];
    this.asking = 0;
  }

  open() {
    const holder = document.createElement("div");
    holder.dataset.chartHolder = "";
    this.box.append(holder);
    this.chart = createChart(holder, {
      autoSize: true,
      layout: { attributionLogo: false, fontFamily: getComputedStyle(document.body).fontFamily },
      crosshair: { mode: CrosshairMode.Normal },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 4, minBarSpacing: 2 },
      rightPriceScale: { scaleMargins: { top: 0.08, bottom: 0.24 } },
      localization: { locale: "en-GB" },
    });
    const minMove = 10 ** -this.decimals;
    this.candles = this.chart.addSeries(CandlestickSeries, {
      priceFormat: { type: "price", precision: this.decimals, minMove },
    });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "",
      priceFormat: { type: "volume" },
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    this.chart.subscribeCrosshairMove((move) => this.tell(move.time));
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && range.from < NEAR_THE_START) this.before();
    });
    this.paint();
    new MutationObserver(() => this.paint()).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  paint() {
    const [up, down] = [colour("success"), colour("error")];
    this.colours = { up: colour("success", 0.35), down: colour("error", 0.35) };
    const line = colour("base-content", 0.08);
    this.chart.applyOptions({
      layout: {
        background: { type: "solid", color: colour("base-100") },
        textColor: colour("base-content", 0.75),
      },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      timeScale: { borderColor: line },
      rightPriceScale: { borderColor: line },
    });
    this.candles.applyOptions({
      upColor: up, downColor: down, wickUpColor: up, wickDownColor: down, borderVisible: false,
    });
    this.show();
  }

  // Load what is shown from the server: at first, on another width, and after a lost connection.
  async load(interval = this.interval) {
    const fresh = interval !== this.interval || !this.rows.length;
    this.interval = interval;
    const asked = ++this.asking;
    let rows;
    try {
      rows = await this.read({});
    } catch {
      return; // what is there stays; the next connection asks again
    }
    if (asked !== this.asking) return;
    this.rows = rows;
    this.oldest = rows.length < CANDLES;
    if (!rows.length) return;
    if (!this.chart) {
      this.open();
      const drawn = this.box.querySelectorAll(":scope > :not([data-chart-holder])");
      for (const old of drawn) old.remove();
    } else {
      this.show();
    }
    if (fresh) {
      const count = Math.max(SHOWN_MIN, Math.floor(this.box.clientWidth / 9));
      const range = { from: rows.length - count, to: rows.length + 3 };
      this.chart.timeScale().applyOptions({ secondsVisible: interval.endsWith("s") });
      this.chart.timeScale().setVisibleLogicalRange(range);
    }
    this.tell();
  }

  async read(more) {
    const asked = { symbol: this.symbol, interval: this.interval, limit: CANDLES, ...more };
    return (await ask("/api/v3/klines", asked)).map((row) => ({
      time: row[0] / 1000, open: row[1], high: row[2], low: row[3], close: row[4], volume: row[5],
    }));
  }

  async before() {
    if (this.oldest || this.reading || !this.rows.length) return;
    this.reading = true;
    const asked = this.asking;
    try {
      const older = await this.read({ endTime: this.rows[0].time * 1000 - 1 });
      if (asked !== this.asking) return;
      this.oldest = older.length < CANDLES;
      this.rows = [...older, ...this.rows];
      if (older.length) this.show();
    } catch {
      this.oldest = true;
    } finally {
      this.reading = false;
    }
  }

  show() {
    this.candles.setData(this.rows.map(candle));
    this.volume.setData(this.rows.map((row) => this.column(row)));
  }

  column(row) {
    const risen = Number(row.close) >= Number(row.open);
    const color = risen ? this.colours.up : this.colours.down;
    return { time: row.time, value: Number(row.volume), color };
  }

  update(kline) {
    if (kline.i !== this.interval) return;
    const { t, o: open, h: high, l: low, c: close, v: volume } = kline;
    const row = { time: t / 1000, open, high, low, close, volume };
    const last = this.rows.at(-1);
    if (!last) {
      this.load();
      return;
    }
    if (row.time < last.time) return;
    if (row.time === last.time) this.rows[this.rows.length - 1] = row;
    else this.rows.push(row);
    this.candles.update(candle(row));
    this.volume.update(this.column(row));
    if (!this.pointed) this.tell();
  }

  tell(time) {
    this.pointed = time;
    const row = time ? this.rows.findLast((one) => one.time === time) : this.rows.at(-1);
    if (!row) return;
    const price = (text) => shown(units(text), this.decimals);
    this.legend.textContent =
      `O ${price(row.open)}  H ${price(row.high)}  L ${price(row.low)}  C ${price(row.close)}` +
      `  V ${compact(units(row.volume))}`;
  }
}

// Here alone are numbers binary fractions: they become pixels.
function candle({ time, open, high, low, close }) {
  return { time, open: Number(open), high: Number(high), low: Number(low), close: Number(close) };
}
