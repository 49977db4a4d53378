// For a PM2 configuration that starts ./server/websocket-server.ts with Node and stays as it is: runs the binary
// in its place. Signals and PM2's messages are passed on, the exit code comes back.
// FIDIBUS_BIN names the binary; by default it is ./bin/fidibus in the working directory.
import { spawn } from "node:child_process";

const binary = process.env.FIDIBUS_BIN ?? "./bin/fidibus";
// The last one is PM2's channel: the binary says "ready" there itself. It is ours, so a fresh one is made and relayed.
const server = spawn(binary, process.argv.slice(2), { stdio: ["ignore", "inherit", "inherit", "ipc"] });

server.on("message", (message) => process.send?.(message));
process.on("message", (message) => server.connected && server.send(message));

// PM2 signals every process of the tree; the binary takes signals that come together for one.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => server.kill(signal));

server.on("error", (error) => {
  console.error(`${binary} cannot be started: ${error.message}`);
  process.exit(1);
});
server.on("exit", (code) => process.exit(code ?? 1));
