// The public streams: one connection that comes back by itself and says how it is.
const PAUSES_MS = [250, 500, 1000, 2000, 5000, 10000];

export class Feed {
  // `opened` is called on each connection, before any event: what was known before may be old.
  constructor(streams, { event, opened, state }) {
    this.streams = new Set(streams);
    this.event = event;
    this.opened = opened;
    this.state = state;
    this.failures = 0;
    this.number = 0;
    this.connect();
    addEventListener("pagehide", () => this.socket.close());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
    addEventListener("online", () => this.socket.readyState === WebSocket.CLOSED && this.connect());
  }

  connect() {
    clearTimeout(this.timer);
    const address = new URL("/stream", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${address}?streams=${[...this.streams].join("/")}`);
    this.socket = socket;
    socket.addEventListener("open", () => {
      this.failures = 0;
      this.state("live");
      this.opened();
    });
    socket.addEventListener("message", (message) => {
      const { stream, data } = JSON.parse(message.data);
      if (data) this.event(stream, data);
    });
    socket.addEventListener("close", () => {
      if (socket !== this.socket) return;
      this.state("away");
      const pause = PAUSES_MS[Math.min(this.failures, PAUSES_MS.length - 1)];
      this.failures += 1;
      this.timer = setTimeout(() => this.connect(), pause * (0.75 + Math.random() / 2));
    });
  }

  // Another stream in place of one; the next connection asks for it as well.
  replace(old, fresh) {
    this.streams.delete(old);
    this.streams.add(fresh);
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.send("UNSUBSCRIBE", [old]);
    this.send("SUBSCRIBE", [fresh]);
  }

  send(method, params) {
    this.number += 1;
    this.socket.send(JSON.stringify({ method, params, id: this.number }));
  }
}

export async function ask(path, parameters) {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}
