// Edits without a connection, on both sides, and the merge when it is back.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import * as Y from "yjs";
import { connect, hocuspocusKinds, kinds, yWebsocketKinds } from "./clients.mjs";
import { converged, eventually, record, stays } from "./convergence.mjs";
import { launch, target } from "./server.mjs";

// The other side is of the other dialect, where the server can mix them.
const counterpart = (kind) => {
  const hocuspocus = hocuspocusKinds.includes(kind);
  if (target === "stock") return kind;
  return hocuspocus ? yWebsocketKinds[hocuspocusKinds.indexOf(kind) % 2] : hocuspocusKinds[2];
};

describe("offline", { concurrency: 3 }, () => {
  let server;
  before(async () => {
    server = await launch();
  });
  after(() => server.remove());

  for (const [index, kind] of kinds.entries()) {
    const other = counterpart(kind);
    const duo = async (t, topic) => {
      const updates = [];
      const [a, b] = [kind, other].map((each) => connect(t, each, server, `${topic}-${index}`));
      for (const { doc } of [a, b]) record(doc, updates);
      await Promise.all([a.synced(), b.synced()]);
      a.text.insert(0, "shared");
      await eventually(() => b.text.toString() === "shared", "both have the start");
      return { a, b, updates };
    };

    test(`both edit offline, then come back: ${kind}, ${other}`, async (t) => {
      const { a, b, updates } = await duo(t, "offline");
      await a.offline();
      await b.offline();
      for (let round = 0; round < 50; round++) {
        a.text.insert(0, "a");
        b.text.insert(b.text.length, "b");
      }
      a.text.delete(50, 3);
      assert.equal(a.text.toString(), `${"a".repeat(50)}red`);
      await a.online();
      await b.online();
      await converged([a.doc, b.doc], updates);
      assert.equal(a.text.toString(), `${"a".repeat(50)}red${"b".repeat(50)}`);
    });

    test(`one goes away while the other deletes what it edits: ${kind}, ${other}`, async (t) => {
      const { a, b, updates } = await duo(t, "away");
      await a.offline();
      b.text.delete(0, 6);
      a.text.insert(3, "---");
      await stays(() => a.text.toString() === "sha---red", "nothing reaches a client that is offline", 100);
      await a.online();
      await converged([a.doc, b.doc], updates);
      assert.equal(b.text.toString(), "---");
    });

    test(`comes and goes many times: ${kind}, ${other}`, async (t) => {
      const { a, b, updates } = await duo(t, "flapping");
      for (let round = 0; round < 5; round++) {
        await a.offline();
        a.text.insert(0, `${round}`);
        b.text.insert(0, "b");
        await a.online();
      }
      await converged([a.doc, b.doc], updates);
      assert.equal(a.text.length, 16);
    });

    test(`a document begun offline is kept: ${kind}`, async (t) => {
      const doc = new Y.Doc();
      const updates = [];
      record(doc, updates);
      doc.getText("text:shared").insert(0, "written before the first connection");
      const a = connect(t, kind, server, `begun-${index}`, { doc });
      const b = connect(t, other, server, `begun-${index}`);
      await Promise.all([a.synced(), b.synced()]);
      await converged([a.doc, b.doc], updates);
      assert.equal(b.text.toString(), "written before the first connection");
    });
  }
});
