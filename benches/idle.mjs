// Opens sockets with one session each, four to a document, keeps them for a while without editing, and says how many are still
// open: node benches/idle.mjs SOCKETS PORT MILLISECONDS. A provider says something every 15 s; these do it once, after 30 s.
import { createRequire } from "node:module";

const require = createRequire(new URL("../server/tests/provider/package.json", import.meta.url));
const WebSocket = require("ws");
const [count, port, hold] = process.argv.slice(2).map(Number);

const address = (index) => {
  const name = Buffer.from(`idle-${index >> 2}`);
  return Buffer.concat([Buffer.from([name.length]), name]);
};
const message = (index, ...bytes) => Buffer.concat([address(index), Buffer.from(bytes)]);

let closed = 0;
const sockets = [];
function open(index) {
  return new Promise((done, fail) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false });
    let frames = 0;
    socket.on("error", fail);
    socket.on("close", () => (closed += 1));
    socket.on("open", () => {
      socket.send(message(index, 2, 0, 0)); // Auth with an empty token
      socket.send(message(index, 0, 0, 1, 0)); // sync step 1 of an empty document
    });
    // Authenticated, step 2, and the server's step 1.
    socket.on("message", () => (frames += 1) === 3 && done());
    sockets.push([socket, index]);
  });
}

for (let first = 0; first < count; first += 50) {
  await Promise.all(Array.from({ length: Math.min(50, count - first) }, (_, at) => open(first + at)));
}
console.log(`${sockets.length} open`);
setTimeout(() => sockets.forEach(([socket, index]) => socket.readyState === 1 && socket.send(message(index, 3))), Math.min(30000, hold / 2));
setTimeout(() => {
  console.log(`${sockets.length - closed} of ${sockets.length} open after ${hold} ms`);
  process.exit(closed === 0 ? 0 : 1);
}, hold);
