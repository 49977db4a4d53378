// Real providers from npm on a text that they share.
import { HocuspocusProvider, HocuspocusProviderWebsocket } from "@hocuspocus/provider";
import WebSocket from "ws";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";
import { until } from "./app.mjs";

/** The provider for `url` takes self-signed certificates, as those of the tests are. */
class TrustingWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { rejectUnauthorized: false });
  }
}

/** The app's browser client: y-websocket, the name of the document in the path. */
export function browser(t, url, room) {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(url, room, doc, { WebSocketPolyfill: TrustingWebSocket, disableBc: true });
  t.after(() => {
    provider.destroy();
    // Ends the clock of its awareness, which would keep Node alive.
    doc.destroy();
  });
  return new Client(doc, () => provider.synced);
}

/** A Hocuspocus provider. */
export function hocuspocus(t, url, name) {
  const document = new Y.Doc();
  const websocketProvider = new HocuspocusProviderWebsocket({ url, WebSocketPolyfill: TrustingWebSocket });
  const provider = new HocuspocusProvider({ websocketProvider, name, document, token: "none" });
  provider.attach();
  t.after(() => {
    provider.destroy();
    websocketProvider.destroy();
    document.destroy();
  });
  return new Client(document, () => provider.isSynced, () => provider.hasUnsyncedChanges);
}

class Client {
  constructor(doc, isSynced, hasUnsynced = () => false) {
    Object.assign(this, { doc, isSynced, hasUnsynced, shared: doc.getText("diagram-xml") });
  }

  get text() {
    return this.shared.toString();
  }

  write(text) {
    this.shared.insert(this.shared.length, text);
  }

  synced() {
    return until("the sync", () => this.isSynced());
  }

  /** All that it wrote is acknowledged. */
  saved() {
    return until("the acks", () => this.isSynced() && !this.hasUnsynced());
  }

  sees(text) {
    return until(`the text ${JSON.stringify(text)}`, () => this.text === text);
  }
}
