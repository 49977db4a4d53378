// Stock @hocuspocus/server for the load harness. PORT, and STORE: none | files (with STORE_DIR).
// SIGUSR2 forces a garbage collection (node --expose-gc), so that memory can be compared.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Database } from "@hocuspocus/extension-database";
import { Server } from "@hocuspocus/server";

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

process.on("SIGUSR2", () => globalThis.gc?.());

const server = new Server({
  port: Number(process.env.PORT),
  address: "127.0.0.1",
  quiet: true,
  extensions,
});
await server.listen();
console.log(`listening ${process.env.PORT}`);
