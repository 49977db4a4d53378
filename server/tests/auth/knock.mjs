// What clients without a library see of a server that asks who they are.
import { eventually } from "../provider/convergence.mjs";
import { hello, openRaw, wire } from "../provider/raw.mjs";

/** As y-websocket speaks: "open", or the code that it is closed with. An open socket is closed again. */
export async function knock(t, server, path, headers = {}) {
  const raw = await openRaw(t, server, path, { headers });
  raw.send(hello.plainStep1);
  const isSync = (bytes) => bytes[0] === wire.sync;
  await eventually(() => raw.isClosed || raw.frames.some(isSync), "an answer to the first message");
  const open = raw.frames.some(isSync);
  if (open) raw.socket.close();
  const { code } = await raw.closed;
  return open ? "open" : code;
}

/** As Hocuspocus speaks: "open", or "denied". */
export async function introduce(t, server, name, token, headers = {}) {
  const raw = await openRaw(t, server, "/", { headers });
  raw.send(hello.auth(name, token));
  const verdict = () => raw.messages().find(({ type }) => type === wire.auth)?.rest[0];
  const answer = await eventually(() => verdict() ?? (raw.isClosed && -1), "an answer to the token");
  raw.socket.close();
  return answer === 2 ? "open" : "denied";
}
