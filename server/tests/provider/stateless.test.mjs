// Stateless messages: without a hook they go nowhere, and no client may broadcast by itself.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect, hocuspocusKinds } from "./clients.mjs";
import { eventually, stays } from "./convergence.mjs";
import { emptyUpdate, frame, hello, openRaw, refusedForAReason, wire } from "./raw.mjs";
import { startServer } from "./server.mjs";

describe("stateless", { concurrency: 3 }, () => {
  for (const kind of hocuspocusKinds) {
    test(`a stateless message reaches no other client: ${kind}`, async (t) => {
      const server = await startServer(t);
      const heard = [];
      const listener = (name) => connect(t, kind, server, name, { onStateless: ({ payload }) => heard.push(payload) });
      const [a, b] = [listener("shared"), listener("shared")];
      await Promise.all([a.synced(), b.synced()]);
      a.provider.sendStateless("hello");
      // An edit behind it shows that the message has been handled.
      a.text.insert(0, "after it");
      await eventually(() => b.text.toString() === "after it", "the edit arrives");
      await stays(() => heard.length === 0, "nobody hears it", 200);
      assert.deepEqual([a.closes, b.closes], [[], []]);
    });
  }

  test("a client's BroadcastStateless closes its connection and reaches nobody", async (t) => {
    const server = await startServer(t);
    const heard = [];
    const listener = connect(t, "provider 4.8", server, "shared", { onStateless: ({ payload }) => heard.push(payload) });
    await listener.synced();
    const raw = await openRaw(t, server);
    raw.send(hello.auth("shared"), hello.step1("shared"));
    await eventually(() => raw.messages().some(({ type }) => type === wire.sync), "the intruder is in");
    raw.send(frame("shared", wire.broadcastStateless, "forged"));
    raw.send(frame("shared", wire.sync, 2, emptyUpdate));
    await refusedForAReason(raw, "BroadcastStateless");
    await stays(() => heard.length === 0, "nobody hears it", 200);
    assert.deepEqual(listener.closes, []);
  });
});
