// Many frames in one piece of TCP, as after a stall or from a batching client: each is handled, in order, and acknowledged once.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import * as Y from "yjs";
import { connect } from "./clients.mjs";
import { eventually, stays } from "./convergence.mjs";
import { frame, hello, openRaw, wire } from "./raw.mjs";
import { startServer } from "./server.mjs";

/** `count` updates, of one letter each. */
function typing(count) {
  const doc = new Y.Doc();
  const updates = [];
  doc.on("update", (update) => updates.push(update));
  for (let index = 0; index < count; index++) doc.getText("text:shared").insert(index, String.fromCharCode(97 + (index % 26)));
  return { text: doc.getText("text:shared").toString(), updates };
}

const inOneWrite = (raw, frames) => {
  raw.socket._socket.cork();
  raw.send(...frames);
  raw.socket._socket.uncork();
};

describe("burst", { concurrency: 3 }, () => {
  for (const count of [63, 64, 65, 66, 500, 2_000]) {
    test(`${count} updates at once behind a join`, async (t) => {
      const server = await startServer(t);
      const { text, updates } = typing(count);
      const raw = await openRaw(t, server);
      raw.send(hello.auth("burst"), hello.step1("burst"));
      await eventually(() => raw.messages().some(({ type }) => type === wire.sync), "the client is in");
      inOneWrite(raw, updates.map((update) => frame("burst", wire.sync, 2, update)));
      const acks = () => raw.messages().filter(({ type }) => type === wire.syncStatus).length;
      await eventually(() => acks() === count, () => `${count} acks, not ${acks()}`);
      const reader = connect(t, "provider 3.4", server, "burst");
      await eventually(() => reader.text.toString() === text, "the whole text is there");
      await stays(() => acks() === count, "no ack too many", 100);
    });

    test(`${count} updates at once with the join, plain dialect`, async (t) => {
      const server = await startServer(t);
      const { text, updates } = typing(count);
      const raw = await openRaw(t, server, "/burst");
      inOneWrite(raw, [hello.plainStep1, ...updates.map((update) => frame(wire.sync, 2, update))]);
      const reader = connect(t, "y-websocket 2.1", server, "burst");
      await eventually(() => reader.text.toString() === text, () => `the whole text, not ${reader.text.length} of ${text.length}`);
      assert.equal(raw.isClosed, false);
    });
  }

  test("ninety documents join in one write", async (t) => {
    const server = await startServer(t);
    const raw = await openRaw(t, server);
    const names = Array.from({ length: 90 }, (_, index) => `document ${index}`);
    inOneWrite(raw, names.flatMap((name) => [hello.auth(name), hello.step1(name)]));
    const answered = () => new Set(raw.messages().filter(({ type }) => type === wire.sync).map(({ address }) => address)).size;
    await eventually(() => answered() === names.length, () => `all are answered, not ${answered()}`);
  });
});
