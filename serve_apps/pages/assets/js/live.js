// Transfers show on open pages when they arrive. The server says that something has happened; the
// page then asks for the truth as it would on loading. After a lost connection it asks as well.
import { io } from "../vendor/socket.io.esm.min.js";
import { refreshDesk } from "./exchange/desk.js";
import { receive, resumed, since } from "./notifications.js";
import { toast } from "./toast.js";

const home = document.body.dataset.live;

function refresh() {
  document.body.dispatchEvent(new CustomEvent("live-refresh"));
}

function tellOfOrder(order) {
  const done = Number(order.lastQty) > 0;
  if (!done) return;
  const verb = order.side === "BUY" ? "Bought" : "Sold";
  toast(
    `${verb} ${trimmed(order.lastQty)} ${order.symbol} at ${grouped(trimmed(order.lastPrice))}`,
    order.status === "FILLED" ? "The order is filled" : "The order is partly filled",
    `/trade/${order.symbol}`,
  );
}

function trimmed(amount) {
  return amount.includes(".") ? amount.replace(/\.?0+$/, "") : amount;
}

function light(state, words) {
  for (const element of document.querySelectorAll("[data-live-light]")) {
    element.hidden = false;
    element.dataset.state = state;
    element.textContent = words;
  }
}

function grouped(amount) {
  const [whole, fraction] = amount.split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (fraction ? `.${fraction}` : "");
}

if (home) {
  let known = false;
  const socket = io({
    transports: ["websocket"],
    reconnectionDelayMax: 10000,
    auth: (send) => send({ since: since() }),
  });
  socket.on("connect", () => {
    light("live", "Live");
    if (known) {
      refresh();
      refreshDesk();
    }
    known = true;
  });
  socket.on("disconnect", (reason) => {
    light("away", "Reconnecting");
    // The server has ended it: the session is over, and the next page asks to log in.
    if (reason === "io server disconnect") light("away", "Logged out");
  });
  socket.on("connect_error", () => light("away", socket.active ? "Reconnecting" : "Not live"));
  // The words come with the notification; here the page only reads its amounts again.
  socket.on("transfer", refresh);
  socket.on("resumed", (told) => resumed(told.last));
  socket.on("notifications", (told) => receive(told.items));
  socket.on("order", (order) => {
    refreshDesk();
    tellOfOrder(order);
  });
  socket.on("balance", () => {
    refreshDesk();
    refresh();
  });
  // A page that comes back from the browser's memory may be old.
  addEventListener("pageshow", (event) => {
    if (event.persisted) refresh();
  });
}
