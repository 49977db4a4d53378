// Many documents on one socket, and many sessions of one document on one socket.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect, hocuspocusKinds, openSocket } from "./clients.mjs";
import { converged, eventually, record, stays } from "./convergence.mjs";
import { startServer } from "./server.mjs";

describe("multiplex", { concurrency: 3 }, () => {
  for (const kind of hocuspocusKinds) {
    test(`forty documents on one socket stay apart: ${kind}`, async (t) => {
      const server = await startServer(t);
      const socket = openSocket(t, kind, server);
      const names = Array.from({ length: 40 }, (_, index) => `document ${index}`);
      const shared = names.map((name) => connect(t, kind, server, name, { socket }));
      const peerSocket = openSocket(t, "provider 4.8", server);
      const peers = names.map((name) => connect(t, "provider 4.8", server, name, { socket: peerSocket }));
      const updates = names.map(() => []);
      for (const index of names.keys()) {
        record(shared[index].doc, updates[index]);
        record(peers[index].doc, updates[index]);
        shared[index].text.insert(0, `mine ${index} `);
        peers[index].text.insert(0, `yours ${index} `);
      }
      await Promise.all([...shared, ...peers].map((client) => client.saved()));
      for (const index of names.keys()) {
        await converged([shared[index].doc, peers[index].doc], updates[index]);
        assert.match(shared[index].text.toString(), new RegExp(`mine ${index} `));
        assert.equal(shared[index].text.length, `mine ${index} yours ${index} `.length);
      }
    });
  }

  for (const kind of ["provider 3.4", "provider 4.8"]) {
    test(`one document leaves the socket, the others stay, and it comes back: ${kind}`, async (t) => {
      const server = await startServer(t);
      const socket = openSocket(t, kind, server);
      const [one, two] = ["one", "two"].map((name) => connect(t, kind, server, name, { socket }).introduce("ann"));
      const [peerOne, peerTwo] = ["one", "two"].map((name) => connect(t, "provider 4.8", server, name).introduce("bob"));
      await eventually(() => peerOne.present().join() === "ann,bob" && peerTwo.present().join() === "ann,bob", "all are there");

      one.provider.detach();
      await eventually(() => peerOne.present().join() === "bob", "ann has left document one");
      peerOne.text.insert(0, "while away");
      peerTwo.text.insert(0, "still here");
      await eventually(() => two.text.toString() === "still here", "document two goes on");
      await stays(() => one.text.toString() === "" && peerTwo.present().join() === "ann,bob", "document one gets nothing");
      one.text.insert(0, "ann too, ");

      one.provider.attach();
      await eventually(() => one.text.toString() === peerOne.text.toString() && one.text.length === 19, "document one catches up");
      // Her old state has the clock at which she was removed, so that everybody waits for the next one, at most 15 s.
      one.introduce("ann again");
      await eventually(() => peerOne.present().join() === "ann again,bob", () => `ann is back, not only ${peerOne.present()}`);
      assert.deepEqual(socket.status, "connected");
    });
  }

  test("sessions of one document on one socket are clients of their own", async (t) => {
    const server = await startServer(t);
    const socket = openSocket(t, "provider 4.8", server);
    const session = () => connect(t, "provider 4.8", server, "shared", { socket, sessionAwareness: true });
    const [a, b] = [session().introduce("ann"), session().introduce("bob")];
    const c = connect(t, "provider 4.8", server, "shared").introduce("cem");
    const updates = [];
    for (const { doc } of [a, b, c]) record(doc, updates);
    await Promise.all([a, b, c].map((client) => client.synced()));
    assert.notEqual(a.provider.effectiveName, b.provider.effectiveName);
    for (const client of [a, b, c]) {
      await eventually(() => client.present().join() === "ann,bob,cem", () => `all are present, not ${client.present()}`);
    }
    for (let round = 0; round < 30; round++) for (const client of [a, b, c]) client.text.insert(0, "x");
    await Promise.all([a, b, c].map((client) => client.saved()));
    await converged([a, b, c].map(({ doc }) => doc), updates);

    b.destroy();
    await eventually(() => c.present().join() === "ann,cem", () => `bob's session alone is gone, not ${c.present()}`);
    c.text.insert(0, "after");
    await eventually(() => a.text.toString().startsWith("after"), "ann's session goes on");
  });

  test("a session and a plain client of the same document, on one socket", async (t) => {
    const server = await startServer(t);
    const socket = openSocket(t, "provider 4.8", server);
    const plain = connect(t, "provider 4.8", server, "shared", { socket });
    const session = connect(t, "provider 4.8", server, "shared", { socket, sessionAwareness: true });
    await Promise.all([plain.synced(), session.synced()]);
    plain.text.insert(0, "plain");
    await eventually(() => session.text.toString() === "plain", "the session sees the plain client");
    session.text.insert(0, "session ");
    await eventually(() => plain.text.toString() === "session plain", "and the other way round");
  });

  test("providers that batch get each batch acknowledged once", async (t) => {
    const server = await startServer(t);
    const a = connect(t, "provider 4.8", server, "batched", { flushDelay: 20 });
    const b = connect(t, "provider 4.8", server, "batched");
    await Promise.all([a.synced(), b.synced()]);
    for (let count = 0; count < 200; count++) a.text.insert(0, "x");
    assert.ok(a.provider.unsyncedChanges <= 2, "the batch counts once");
    await a.saved();
    await eventually(() => b.text.length === 200, "the batch arrives");
  });

  test("the socket's end reaches every document, and all come back", async (t) => {
    const server = await startServer(t);
    const socket = openSocket(t, "provider 4.8", server);
    const clients = ["a", "b", "c"].map((name) => connect(t, "provider 4.8", server, name, { socket }));
    for (const client of clients) client.text.insert(0, client.name);
    await Promise.all(clients.map((client) => client.saved()));
    await server.kill("SIGKILL");
    await eventually(() => clients.every(({ closes }) => closes.length > 0), "each document's provider hears of the end");
    await server.start();
    await Promise.all(clients.map((client) => client.saved()));
    const fresh = connect(t, "provider 4.8", server, "b");
    await eventually(() => fresh.text.toString() === "b", "the content is there");
  });
});
