// Fidibus inside Node, behind the API of @hocuspocus/server, for the load harness. PORT.
// SIGUSR2 forces a garbage collection (node --expose-gc), so that memory can be compared.
import { createRequire } from "node:module";

const { Server } = createRequire(import.meta.url)("../../bindings-node");

process.on("SIGUSR2", () => globalThis.gc?.());

const server = new Server({ port: Number(process.env.PORT), address: "127.0.0.1", quiet: true });
await server.listen();
console.log(`listening ${process.env.PORT}`);
