// The drawing application's way to edit: the whole XML deleted and inserted anew with every change. What was deleted must not
// count as the document's size, nor grow without end.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect } from "./clients.mjs";
import { converged, eventually, record } from "./convergence.mjs";
import { startServer } from "./server.mjs";

const drawing_bytes = 400_000;
const changes = 60;

describe("replace", { concurrency: 2 }, () => {
  for (const kind of ["y-websocket 2.1", "provider 4.8"]) {
    test(`a drawing of 400 kB replaced sixty times: ${kind}`, async (t) => {
      const server = await startServer(t);
      const updates = [];
      const artist = connect(t, kind, server, "diagram-1");
      const viewer = connect(t, kind, server, "diagram-1");
      record(artist.doc, updates);
      await Promise.all([artist.synced(), viewer.synced()]);
      for (let change = 0; change < changes; change++) {
        artist.doc.transact(() => {
          artist.text.delete(0, artist.text.length);
          artist.text.insert(0, `<mxGraphModel change="${change}">`.padEnd(drawing_bytes, "x"));
        });
        // As fast as a mouse drags: some changes wait for each other, some do not.
        if (change % 10 === 0) await eventually(() => viewer.text.toString() === artist.text.toString(), "the viewer follows");
      }
      await artist.saved();
      await converged([artist.doc, viewer.doc], updates);
      assert.deepEqual([artist.closes, viewer.closes], [[], []]);

      const fresh = connect(t, kind, server, "diagram-1");
      await converged([fresh.doc, artist.doc], updates);
    });
  }
});
