// The y-websocket 2.1 server (bin/utils) behind a plain ws server, for the load harness. PORT.
// SIGUSR2 forces a garbage collection (node --expose-gc), so that memory can be compared.
import http from "node:http";
import { createRequire } from "node:module";
import { WebSocketServer } from "ws";

const require = createRequire(import.meta.url);
const { setupWSConnection } = require("y-websocket/bin/utils");

process.on("SIGUSR2", () => globalThis.gc?.());

const server = http.createServer((_request, response) => response.end("okay"));
const sockets = new WebSocketServer({ server });
sockets.on("connection", setupWSConnection);
server.listen(Number(process.env.PORT), "127.0.0.1", 4096, () => console.log(`listening ${process.env.PORT}`));
