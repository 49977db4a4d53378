// Goal: what the hosts in C and C++ serve is what the server serves. Method: real providers of both dialects against
// each other through each host; a hook in C refuses a token, answers 50 ms late, and rejects an update.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "../../../server/tests/provider/clients.mjs";
import { converged, eventually, record, stays } from "../../../server/tests/provider/convergence.mjs";
import { atEnd } from "../../../server/tests/provider/server.mjs";
import { hosts, startHost } from "./host.mjs";

const kinds = ["provider 4.8", "y-websocket 3.1"];

for (const { name, path } of hosts) {
  describe(`the host in ${name}`, { concurrency: 2 }, () => {
    test("both dialects edit one document and see each other", async (t) => {
      const host = await startHost(t, path);
      const updates = [];
      const clients = [...kinds, ...kinds].map((kind) => connect(t, kind, host, "notes & more/ä"));
      for (const client of clients) record(client.doc, updates);
      await Promise.all(clients.map((client) => client.synced()));
      clients.forEach((client, index) => client.introduce(`client ${index}`));
      for (let round = 0; round < 30; round++) {
        for (const [index, client] of clients.entries()) {
          client.text.insert(Math.floor(client.text.length / 2), `${index}`);
          client.doc.getMap("map:shared").set(`key ${round % 7}`, index);
        }
        if (round % 10 === 0) await new Promise((done) => setTimeout(done, 5));
      }
      await Promise.all(clients.map((client) => client.saved()));
      await converged(
        clients.map((client) => client.doc),
        updates,
      );
      const everybody = clients.map((_, index) => `client ${index}`);
      for (const client of clients) {
        await eventually(() => client.present().length === everybody.length, `${client.kind} sees all`);
        assert.deepEqual(client.present(), everybody);
      }
    });

    test("a document of megabytes passes, and a late joiner gets it", async (t) => {
      const host = await startHost(t, path);
      const writer = connect(t, "provider 4.8", host, "large");
      await writer.synced();
      const paragraph = "All of it passes through the sockets of the host. ".repeat(200);
      for (let round = 0; round < 300; round++) writer.text.insert(writer.text.length, `${round} ${paragraph}`);
      await writer.saved();
      const reader = connect(t, "y-websocket 3.1", host, "large");
      await reader.synced();
      await converged([writer.doc, reader.doc]);
      assert.ok(reader.text.length > 3_000_000);
    });

    test("a token is refused, and one is granted 50 ms later", async (t) => {
      const host = await startHost(t, path, "--token", "good");
      const bad = connect(t, "provider 4.8", host, "guarded", { token: "bad" });
      await eventually(() => bad.verdicts.length > 0, "a verdict");
      assert.equal(bad.verdicts[0], "failed: wrong token");
      const started = performance.now();
      const good = connect(t, "provider 4.8", host, "guarded", { token: "good" });
      await good.synced();
      assert.ok(performance.now() - started >= 50, "the answer took its time");
      const same = connect(t, "y-websocket 3.1", host, "guarded", { token: "good" });
      const other = connect(t, "y-websocket 3.1", host, "guarded", { token: "bad" });
      await same.synced();
      good.text.insert(0, "among us");
      await eventually(() => same.text.toString() === "among us", "the edit");
      await stays(() => other.text.length === 0 && bad.text.length === 0, "strangers see nothing");
    });

    test("an update is rejected, and only its author hears of it", async (t) => {
      const host = await startHost(t, path, "--forbid", "forbidden");
      const [a, b, c] = [kinds[0], kinds[0], kinds[1]].map((kind) => connect(t, kind, host, "moderated"));
      await Promise.all([a.synced(), b.synced(), c.synced()]);
      a.text.insert(0, "allowed");
      await eventually(() => b.text.toString() === "allowed" && c.text.toString() === "allowed", "the edit");
      b.text.insert(0, "forbidden");
      // On a socket for many documents only the session ends, with a message that has no code.
      await eventually(() => b.closes.some((close) => close.reason === "that word is forbidden"), "the author is closed");
      const d = connect(t, kinds[1], host, "moderated");
      await d.synced();
      d.text.insert(0, "forbidden");
      await eventually(() => d.closes.some((close) => close.code === 4010), "and so is the other");
      assert.ok(d.closes.some((close) => close.reason === "that word is forbidden"));
      await stays(() => a.text.toString() === "allowed" && c.text.toString() === "allowed", "nobody else sees it");
      assert.deepEqual([a.closes, c.closes], [[], []]);
    });

    test("everything is there after a restart", async (t) => {
      const directory = await mkdtemp(join(tmpdir(), "fidibus-host-"));
      atEnd(t, () => rm(directory, { recursive: true, force: true }));
      const store = `sqlite:${join(directory, "documents.db")}`;
      const first = await startHost(t, path, "--store", store);
      const writer = connect(t, "provider 4.8", first, "kept");
      await writer.synced();
      writer.text.insert(0, "kept");
      await writer.saved();
      writer.destroy();
      assert.equal(await first.stop(), 0);
      const second = await startHost(t, path, "--store", store);
      const reader = connect(t, "y-websocket 3.1", second, "kept");
      await eventually(() => reader.text.toString() === "kept", "the text is back");
    });
  });
}
