// New notifications on open pages: counted on the bell, shown once across all tabs of the browser.
//
// The server numbers a person's notifications without gaps and sends each page what follows the
// number that the page names. What has been shown is remembered beside the tabs, and a lock makes
// one tab at a time decide what it shows; hidden tabs leave it to one that is seen.
import { toast } from "./toast.js";

const SINGLE_MAX = 3;

const home = document.body.dataset.live;
const head = Number(document.body.dataset.told || 0);
const key = `kontor:told:${home}`;
let last = Math.min(head, shown() ?? head);
let waiting = [];

function shown() {
  try {
    const stored = localStorage.getItem(key);
    return stored === null ? null : Number(stored);
  } catch {
    return null;
  }
}

function remember(seq) {
  try {
    localStorage.setItem(key, String(seq));
  } catch {
    // Without storage each tab shows for itself.
  }
}

/** The last number that this page knows of: the server sends what follows. */
export function since() {
  return last;
}

/** The server says where it goes on; after a restored backup that may be earlier than thought. */
export function resumed(seq) {
  if (seq < last) {
    last = seq;
    remember(Math.min(seq, shown() ?? seq));
  }
}

/** Notifications in their order. */
export function receive(items) {
  const fresh = items.filter((item) => item.seq > last);
  if (fresh.length === 0) return;
  last = fresh[fresh.length - 1].seq;
  count(fresh.filter((item) => item.seq > head && !item.read).length);
  waiting.push(...fresh.filter((item) => !item.read));
  if (!document.hidden) show();
}

function count(more) {
  const badge = document.querySelector("[data-unread]");
  if (!badge || more === 0) return;
  const number = badge.querySelector("[data-unread-count]");
  const unread = Number.parseInt(number.textContent || "0", 10) + more;
  number.textContent = unread > 99 ? "99+" : String(unread);
  badge.hidden = false;
}

async function show() {
  if (navigator.locks) await navigator.locks.request(key, claim);
  else claim();
}

function claim() {
  const seen = shown() ?? head;
  const mine = waiting.filter((item) => item.seq > seen);
  const reached = Math.max(seen, last);
  waiting = [];
  if (reached > seen || shown() === null) remember(reached);
  if (mine.length > SINGLE_MAX) {
    toast(`${mine.length} new notifications`, mine[mine.length - 1].title, `${home}notifications/`);
    return;
  }
  for (const item of mine) {
    toast(item.title, item.text, home + (item.path || "notifications/"));
  }
}

function markRead(link) {
  const csrf = document.querySelector('input[name="csrf"]');
  if (!csrf) return;
  const body = new URLSearchParams({ csrf: csrf.value, seq: link.dataset.reads });
  fetch(`${home}notifications/read`, { method: "POST", body, keepalive: true, redirect: "manual" });
}

if (home) {
  // What the page already counts needs no toast: it was there before anybody looked.
  if (shown() === null) remember(head);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && waiting.length > 0) show();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-reads]");
    if (link) markRead(link);
  });
}
