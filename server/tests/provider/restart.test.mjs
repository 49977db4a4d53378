// The server dies or is stopped while people type: no acknowledged edit is lost, and everybody comes back and agrees.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, hocuspocusKinds, kinds } from "./clients.mjs";
import { converged, eventually, record } from "./convergence.mjs";
import { startServer, stockFails, target } from "./server.mjs";

const notDurable = stockFails("it acknowledges before it stores");

/** Types one numbered entry after the other until told to stop. */
function type(client, mark, pause_ms = 4) {
  let typing = true;
  const typist = {
    written: 0,
    /** How many of the entries are acknowledged: acks come in the order of the edits. */
    acknowledged: 0,
    stop: async () => {
      typing = false;
      await done;
    },
  };
  const { provider } = client;
  const list = client.doc.getArray("array:log");
  let open_before = 0;
  if (hocuspocusKinds.includes(client.kind)) {
    provider.on("unsyncedChanges", () => {
      // After a reconnect the provider counts its sync as one change, whose ack covers all before it.
      if (provider.unsyncedChanges < open_before && provider.synced) {
        typist.acknowledged = Math.max(typist.acknowledged, typist.written - provider.unsyncedChanges);
      }
      open_before = provider.unsyncedChanges;
    });
  }
  const done = (async () => {
    while (typing) {
      list.push([`${mark}${typist.written}`]);
      typist.written += 1;
      await sleep(pause_ms);
    }
  })();
  return typist;
}

describe("restart", { concurrency: 3 }, () => {
  for (const kind of hocuspocusKinds) {
    test(`every acknowledged edit survives SIGKILL, though its author never returns: ${kind}`, notDurable, async (t) => {
      const server = await startServer(t);
      let expected = [];
      for (let round = 0; round < 4; round++) {
        const author = connect(t, kind, server, "killed");
        const list = author.doc.getArray("array:log");
        await author.saved();
        assert.deepEqual(list.toArray().slice(0, expected.length), expected, `round ${round}: what was acknowledged is there`);
        const already = list.toArray();
        const typist = type(author, `${round}-`);
        await eventually(() => typist.acknowledged >= 10 + 15 * round, "some edits are acknowledged");
        await sleep(Math.random() * 20);
        const { acknowledged } = typist;
        await server.kill("SIGKILL");
        author.destroy();
        await typist.stop();
        expected = [...already, ...list.toArray().slice(already.length, already.length + acknowledged)];
        assert.equal(expected.length, already.length + acknowledged);
        await server.start();
      }
      const heir = connect(t, "provider 4.8", server, "killed");
      await heir.saved();
      assert.deepEqual(heir.doc.getArray("array:log").toArray().slice(0, expected.length), expected);
    });
  }

  test("all kinds type through three kills and agree at the end", async (t) => {
    const server = await startServer(t);
    const mixing = target === "stock" ? hocuspocusKinds : kinds;
    const updates = [];
    const clients = mixing.map((kind) => connect(t, kind, server, "killed"));
    for (const { doc } of clients) record(doc, updates);
    await Promise.all(clients.map((client) => client.synced()));
    const typists = clients.map((client, index) => type(client, `${index}-`, 10));
    for (let round = 0; round < 3; round++) {
      await sleep(300 + Math.random() * 200);
      await server.kill("SIGKILL");
      await sleep(100);
      await server.start();
      await Promise.all(clients.map((client) => client.synced()));
    }
    for (const typist of typists) await typist.stop();
    await Promise.all(clients.map((client) => client.saved()));
    await converged(clients.map(({ doc }) => doc), updates);
    const written = typists.reduce((sum, typist) => sum + typist.written, 0);
    assert.equal(clients[0].doc.getArray("array:log").length, written, "each entry once");

    // The server's own copy, without any client's help.
    for (const client of clients) client.destroy();
    await server.kill("SIGTERM");
    await server.start();
    const fresh = connect(t, "provider 4.8", server, "killed");
    fresh.doc.getArray("array:log");
    await fresh.saved();
    await converged([fresh.doc], updates);
  });

  test("SIGTERM: everybody is told 1012, all is saved, the exit code is 0, and they come back", stockFails("it closes with 4205"), async (t) => {
    const server = await startServer(t);
    const updates = [];
    const clients = kinds.map((kind) => connect(t, kind, server, "stopped"));
    for (const { doc } of clients) record(doc, updates);
    await Promise.all(clients.map((client) => client.synced()));
    const typists = clients.map((client, index) => type(client, `${index}-`));
    await sleep(200);
    const end = await server.kill("SIGTERM");
    assert.deepEqual(end, { code: 0, signal: null }, server.stderr);
    for (const { kind, closes } of clients) {
      await eventually(() => closes.length > 0, `${kind} hears of the end`);
      assert.equal(closes[0].code, 1012, `${kind}: ${JSON.stringify(closes[0])}`);
      assert.notEqual(closes[0].reason, "", `${kind} gets a reason`);
    }
    await server.start();
    await Promise.all(clients.map((client) => client.synced()));
    for (const typist of typists) await typist.stop();
    await Promise.all(clients.map((client) => client.saved()));
    await converged(clients.map(({ doc }) => doc), updates);
  });

  test("SIGINT ends as SIGTERM does", stockFails("the stock test server leaves SIGINT to Node"), async (t) => {
    const server = await startServer(t);
    const client = connect(t, "provider 4.8", server, "stopped");
    client.text.insert(0, "kept");
    await client.saved();
    assert.deepEqual(await server.kill("SIGINT"), { code: 0, signal: null });
    client.destroy();
    await server.start();
    const fresh = connect(t, "y-websocket 3.1", server, "stopped");
    await eventually(() => fresh.text.toString() === "kept", "the text is there");
  });

  test("a document that everybody left is there for the next one", async (t) => {
    const server = await startServer(t);
    for (let round = 0; round < 10; round++) {
      const client = connect(t, hocuspocusKinds[round % 3], server, "left");
      await client.saved();
      assert.equal(client.text.toString(), "x".repeat(round));
      client.text.insert(0, "x");
      await client.saved();
      client.destroy();
      // Sometimes while the server still unloads, sometimes after it.
      await sleep([0, 5, 50][round % 3]);
    }
  });
});
