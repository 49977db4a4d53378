// The five providers behind one interface. Each client has its own document, socket and awareness; channels between tabs
// are off, or the clients would see each other without the server.
import { WebSocket as NodeWebSocket } from "ws";
import * as Y from "yjs";
import * as v2 from "provider-v2";
import * as v3 from "provider-v3";
import * as v4 from "provider-v4";
import { WebsocketProvider as WebsocketProviderV2 } from "y-websocket-v2";
import { WebsocketProvider as WebsocketProviderV3 } from "y-websocket-v3";
import { eventually } from "./convergence.mjs";
import { atEnd } from "./server.mjs";

const hocuspocus = { "provider 2.15": v2, "provider 3.4": v3, "provider 4.8": v4 };
const yWebsocket = { "y-websocket 2.1": WebsocketProviderV2, "y-websocket 3.1": WebsocketProviderV3 };

export const hocuspocusKinds = Object.keys(hocuspocus);
export const yWebsocketKinds = Object.keys(yWebsocket);
export const kinds = [...hocuspocusKinds, ...yWebsocketKinds];

const reconnect_ms = { delay: 100, minDelay: 100, maxDelay: 500 };

/** A socket that several Hocuspocus providers share. */
export function openSocket(t, kind, server, { abortable } = {}) {
  const socket = new hocuspocus[kind].HocuspocusProviderWebsocket({
    url: server.url,
    ...reconnect_ms,
    ...(abortable && { WebSocketPolyfill: NodeWebSocket }),
  });
  atEnd(t, () => socket.destroy());
  return socket;
}

class Client {
  constructor(kind, name, doc) {
    this.kind = kind;
    this.name = name;
    this.doc = doc;
    /** Codes and reasons of the closes seen, the oldest first. */
    this.closes = [];
  }

  get awareness() {
    return this.provider.awareness;
  }

  get text() {
    return this.doc.getText("text:shared");
  }

  /** Names that this client sees present, its own among them. */
  present() {
    return [...this.awareness.getStates().values()].map((state) => state.user?.name).filter(Boolean).sort();
  }

  introduce(name) {
    this.awareness.setLocalStateField("user", { name });
    return this;
  }

  synced(wait_ms) {
    return eventually(() => this.provider.synced, `${this.kind} is in sync`, wait_ms);
  }
}

class HocuspocusClient extends Client {
  constructor(t, kind, server, name, { doc, token, socket, abortable, ...options }) {
    super(kind, name, doc);
    this.socket = socket ?? openSocket(t, kind, server, { abortable });
    /** What the server said of authentication, the oldest first. */
    this.verdicts = [];
    this.provider = new hocuspocus[kind].HocuspocusProvider({
      websocketProvider: this.socket,
      name,
      document: doc,
      token,
      broadcast: false,
      onAuthenticated: (granted) => this.verdicts.push(granted?.scope ?? this.provider.authorizedScope),
      onAuthenticationFailed: ({ reason }) => this.verdicts.push(`failed: ${reason}`),
      onClose: ({ event }) => this.closes.push({ code: event.code, reason: event.reason }),
      ...options,
    });
    // 2.15 attaches itself at once.
    this.provider.attach?.();
    this.ownsSocket = socket === undefined;
    atEnd(t, () => this.destroy());
  }

  /** Waits until the server has acknowledged every edit. */
  saved(wait_ms) {
    return eventually(
      () => this.provider.synced && !this.provider.hasUnsyncedChanges,
      () => `${this.kind} has every edit acknowledged, not ${this.provider.unsyncedChanges} open`,
      wait_ms,
    );
  }

  async offline() {
    this.socket.disconnect();
    await eventually(() => !this.provider.synced && this.socket.status === "disconnected", `${this.kind} is offline`);
  }

  async online() {
    // Not awaited: it settles only when the server has spoken.
    this.socket.connect();
    await this.synced();
  }

  /** Ends the TCP connection without a word, as a killed tab does. Node's own WebSocket cannot: needs `abortable`. */
  cut() {
    this.socket.shouldConnect = false;
    this.socket.webSocket.terminate();
  }

  destroy() {
    if (this.destroyed) return;
    this.destroyed = true;
    this.provider.destroy();
    if (this.ownsSocket) this.socket.destroy();
  }
}

class YWebsocketClient extends Client {
  constructor(t, kind, server, name, { doc, token }) {
    super(kind, name, doc);
    this.provider = new yWebsocket[kind](server.url, name, doc, {
      disableBc: true,
      maxBackoffTime: 500,
      // Node's own says nothing of a connection refused but "error", and this client waits for "close" to try again.
      WebSocketPolyfill: NodeWebSocket,
      ...(token && { params: { token } }),
    });
    this.provider.on("connection-close", (event) => event && this.closes.push({ code: event.code, reason: event.reason }));
    atEnd(t, () => this.destroy());
  }

  /** This dialect has no acknowledgement: waits for the socket to have taken all, and a round trip behind it. */
  async saved(wait_ms) {
    await this.synced(wait_ms);
    await eventually(() => this.provider.ws?.bufferedAmount === 0, `${this.kind} has sent every edit`, wait_ms);
  }

  async offline() {
    this.provider.disconnect();
  }

  async online() {
    this.provider.connect();
    await this.synced();
  }

  cut() {
    this.provider.shouldConnect = false;
    this.provider.ws.terminate();
  }

  destroy() {
    if (this.destroyed) return;
    this.destroyed = true;
    this.provider.destroy();
    this.awareness.destroy();
  }
}

/** A client of the kind, editing the document `name`; it ends with the test `t`. */
export function connect(t, kind, server, name, options = {}) {
  const Kind = kind in hocuspocus ? HocuspocusClient : YWebsocketClient;
  // 2.15 says nothing at all without a token, and stock 4.7 then waits for one for ever.
  return new Kind(t, kind, server, name, { token: "any", ...options, doc: options.doc ?? new Y.Doc() });
}
