// Stock @hocuspocus/server for the load harness. PORT, STORE: none | files (with STORE_DIR), and HOOKS and SOCKETS of
// hooks.mjs.
// SIGUSR2 forces a garbage collection (node --expose-gc), so that memory can be compared.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Database } from "@hocuspocus/extension-database";
import { Hocuspocus, Server } from "@hocuspocus/server";
import { WebSocketServer } from "ws";
import * as Y from "yjs";
import { configurationOf, serve } from "./hooks.mjs";

const store = process.env.STORE ?? "none";
const extensions = [];

if (store === "files") {
  const directory = process.env.STORE_DIR;
  mkdirSync(directory, { recursive: true });
  const path = (name) => join(directory, encodeURIComponent(name));
  extensions.push(
    new Database({
      fetch: async ({ documentName }) => {
        try {
          return readFileSync(path(documentName));
        } catch (error) {
          if (error.code === "ENOENT") return null;
          throw error;
        }
      },
      store: async ({ documentName, state }) => writeFileSync(path(documentName), state),
    }),
  );
}

// Loads all of Tiptap: only for whom it is measured.
const transformer = process.env.HOOKS === "tiptap" ? await import("@hocuspocus/transformer") : {};
await serve({ Server, Hocuspocus, WebSocketServer }, { ...configurationOf({ Y, ...transformer }), extensions });
