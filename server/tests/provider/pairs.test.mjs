// Every pair of providers, equal ones too, on one document: each sees the other's text and presence, and its end.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect, hocuspocusKinds, kinds } from "./clients.mjs";
import { converged, eventually, record } from "./convergence.mjs";
import { launch, target } from "./server.mjs";

const pairs = kinds.flatMap((left, index) => kinds.slice(index).map((right) => [left, right]));
const mixed = (left, right) => hocuspocusKinds.includes(left) !== hocuspocusKinds.includes(right);

// One server for all pairs; documents keep them apart. Four at a time, to stay inside the CPU of a small machine.
describe("pairs", { concurrency: 4 }, () => {
  let server;
  before(async () => {
    server = await launch();
  });
  after(() => server.remove());

  for (const [left, right] of pairs) {
    const skip = target === "stock" && mixed(left, right) && "stock fails: its two servers share no document";
    test(`${left} with ${right}`, { skip }, async (t) => {
      const name = `pair-${kinds.indexOf(left)}-${kinds.indexOf(right)}`;
      const updates = [];
      const a = connect(t, left, server, name).introduce("ann");
      const b = connect(t, right, server, name).introduce("bob");
      record(a.doc, updates);
      record(b.doc, updates);
      await Promise.all([a.synced(), b.synced()]);

      a.text.insert(0, "from a");
      await eventually(() => b.text.toString() === "from a", "b sees a's text");
      b.text.insert(6, " and from b");
      await eventually(() => a.text.toString() === "from a and from b", "a sees b's text");
      for (const client of [a, b]) {
        await eventually(() => client.present().join() === "ann,bob", () => `both are present, not ${client.present()}`);
      }

      // Both type at the same place at the same time.
      for (let round = 0; round < 20; round++) {
        a.text.insert(0, "x");
        b.text.insert(0, "y");
        await new Promise((done) => setTimeout(done, round % 3));
      }
      await converged([a.doc, b.doc], updates);
      assert.equal(a.text.length, 57);

      b.destroy();
      await eventually(() => a.present().join() === "ann", () => `b's presence ends, not ${a.present()}`);
      const c = connect(t, right, server, name);
      await eventually(() => c.text.toString() === a.text.toString(), "a newcomer gets the whole text");
      await eventually(() => c.present().join() === "ann", () => `a newcomer sees who is there, not ${c.present()}`);
    });
  }
});
