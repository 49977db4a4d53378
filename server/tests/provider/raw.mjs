// A bare WebSocket that speaks frames made by hand with lib0: for what no provider would send.
import assert from "node:assert/strict";
import * as decoding from "lib0/decoding";
import * as encoding from "lib0/encoding";
import { WebSocket } from "ws";
import { eventually } from "./convergence.mjs";
import { atEnd, within } from "./server.mjs";

/** The numbers of both dialects on the wire. */
export const wire = {
  sync: 0, awareness: 1, auth: 2, queryAwareness: 3, syncReply: 4, stateless: 5, broadcastStateless: 6, close: 7, syncStatus: 8,
};

/** A frame of varints (numbers), var-strings (strings) and length-prefixed bytes. */
export const frame = (...parts) =>
  encoding.encode((encoder) => {
    for (const part of parts) {
      if (typeof part === "number") encoding.writeVarUint(encoder, part);
      else if (typeof part === "string") encoding.writeVarString(encoder, part);
      else encoding.writeVarUint8Array(encoder, part);
    }
  });

const emptyStateVector = Uint8Array.of(0);
/** Yjs' own encoding of an update without content. */
export const emptyUpdate = Uint8Array.of(0, 0);

/** First frames of each dialect. */
export const hello = {
  auth: (name, token = "any") => frame(name, wire.auth, 0, token, "4.8.0"),
  step1: (name) => frame(name, wire.sync, 0, emptyStateVector),
  plainStep1: frame(wire.sync, 0, emptyStateVector),
};

const close_wait_ms = 30_000;

/** An open socket; `frames` holds what came, `closed` settles with `{ code, reason }`. */
export async function openRaw(t, server, path = "/", options = {}) {
  const socket = new WebSocket(server.url + path, options);
  const frames = [];
  socket.on("message", (bytes) => frames.push(new Uint8Array(bytes)));
  // A server that closes while we still send resets the connection; the code is what counts.
  socket.on("error", () => {});
  const closed = new Promise((done) => socket.once("close", (code, reason) => done({ code, reason: `${reason}` })));
  atEnd(t, () => socket.terminate());
  await within(close_wait_ms, "the opening of a socket", new Promise((done) => socket.once("open", done)));
  const raw = {
    socket,
    frames,
    closed,
    isClosed: false,
    send: (...all) => all.forEach((bytes) => socket.send(bytes)),
    /** Frames so far of one document as `{ type, rest }`. */
    messages: () =>
      frames.map((bytes) => {
        const decoder = decoding.createDecoder(bytes);
        const address = decoding.readVarString(decoder);
        return { address, type: decoding.readVarUint(decoder), rest: decoder.arr.subarray(decoder.pos) };
      }),
  };
  closed.then(() => (raw.isClosed = true));
  return raw;
}

/** Waits for the server's refusal, with a reason: of the document alone (CLOSE, PermissionDenied) or of the connection. */
export async function refusedForAReason(raw, what) {
  const isEnd = ({ type, rest }) => type === wire.close || (type === wire.auth && rest[0] === 1);
  const end = await eventually(() => raw.isClosed || raw.messages().find(isEnd), `a refusal after ${what}`, close_wait_ms);
  if (end === true) return closedForAReason(raw, what);
  const decoder = decoding.createDecoder(end.rest);
  if (end.type === wire.auth) decoding.readVarUint(decoder);
  assert.notEqual(decoding.readVarString(decoder), "", `${what}: ended without a reason`);
}

/** Waits for the close and demands that it says why: a code of its own choice and a reason. */
export async function closedForAReason(raw, what) {
  const { code, reason } = await within(close_wait_ms, `the close after ${what}`, raw.closed);
  assert.ok(code !== 1005 && code !== 1006, `${what}: closed without a code (${code})`);
  assert.notEqual(reason, "", `${what}: closed with ${code} but no reason`);
  return { code, reason };
}
