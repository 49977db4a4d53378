// Fidibus inside Node, behind the API of @hocuspocus/server, for the load harness. PORT, and HOOKS and SOCKETS of hooks.mjs.
// SIGUSR2 forces a garbage collection (node --expose-gc), so that memory can be compared.
import { createRequire } from "node:module";
import { configurationOf, serve } from "./hooks.mjs";

// The packages of bindings-node: documents have to be of one copy of yjs.
const require = createRequire(new URL("../../bindings-node/package.json", import.meta.url));
const { Server, Hocuspocus } = createRequire(import.meta.url)("../../bindings-node");
const { WebSocketServer } = require("ws");
const configuration = configurationOf({
  Y: require("yjs"),
  // Loads all of Tiptap: only for whom it is measured.
  TiptapTransformer: process.env.HOOKS === "tiptap" ? require("@hocuspocus/transformer").TiptapTransformer : undefined,
});
await serve({ Server, Hocuspocus, WebSocketServer }, configuration);
