// The stock servers behind one port, as the measure of the tests: Hocuspocus 4.7 at "/", the server of y-websocket 2.1 at
// "/name". It reads the same environment as the binary. The two do not share documents: that is ours alone.
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Database } from "@hocuspocus/extension-database";
import { Hocuspocus } from "@hocuspocus/server";
import { WebSocketServer } from "ws";

const { setupWSConnection } = createRequire(import.meta.url)("y-websocket-v2/bin/utils");
const { WS_PORT, WS_HOST, WS_STATE_DIR, WS_AUTH, WS_STATIC_TOKENS = "" } = process.env;

const rows = new DatabaseSync(join(WS_STATE_DIR, "stock.sqlite"));
rows.exec("create table if not exists document (name text primary key, content blob not null)");
const select = rows.prepare("select content from document where name = ?");
const upsert = rows.prepare("insert into document values (?, ?) on conflict (name) do update set content = excluded.content");

const access = new Map(
  WS_STATIC_TOKENS.split(",").filter(Boolean).map((entry) => {
    const [token, user] = entry.split("=");
    return [token, user.split(":")[1]];
  }),
);

const hocuspocus = new Hocuspocus({
  quiet: true,
  debounce: 200,
  extensions: [
    new Database({
      fetch: async ({ documentName }) => select.get(documentName)?.content ?? null,
      store: async ({ documentName, state }) => void upsert.run(documentName, state),
    }),
  ],
  ...(WS_AUTH === "static" && {
    async onAuthenticate({ token, connectionConfig }) {
      const granted = access.get(token);
      if (granted === undefined) throw new Error("unknown token");
      connectionConfig.readOnly = granted === "ro";
    },
  }),
});

const sockets = new WebSocketServer({ noServer: true });
const http = createServer((_, response) => response.end());
http.on("upgrade", (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const url = new URL(request.url, "http://stock");
    if (url.pathname !== "/") return setupWSConnection(ws, request, { docName: url.pathname.slice(1) });
    const connection = hocuspocus.handleConnection(ws, new Request(url, { headers: request.headers }));
    ws.on("error", () => {});
    ws.on("message", (bytes) => connection.handleMessage(new Uint8Array(bytes)));
    ws.on("close", (code, reason) => connection.handleClose({ code, reason: `${reason}` }));
  });
});

process.on("SIGTERM", () => {
  hocuspocus.closeConnections();
  hocuspocus.flushPendingStores();
  setTimeout(() => process.exit(0), 500);
});
http.listen(Number(WS_PORT), WS_HOST, () => console.log("WebSocket server listening"));
