// Every shared type, deletion and undo, between a Hocuspocus and a y-websocket client, and a storm of random edits on all kinds.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import * as Y from "yjs";
import { connect, kinds } from "./clients.mjs";
import { asJson, converged, eventually, record } from "./convergence.mjs";
import { launch, target } from "./server.mjs";

// Stock cannot mix the dialects, so there each pair stays within one.
const duos =
  target === "stock"
    ? [["provider 2.15", "provider 4.8"], ["y-websocket 2.1", "y-websocket 3.1"]]
    : [["provider 4.8", "y-websocket 3.1"], ["y-websocket 2.1", "provider 2.15"], ["provider 3.4", "provider 4.8"]];

describe("types", { concurrency: 3 }, () => {
  let server;
  before(async () => {
    server = await launch();
  });
  after(() => server.remove());

  for (const [left, right] of duos) {
    const duo = async (t, topic) => {
      const updates = [];
      const [a, b] = [left, right].map((kind) => connect(t, kind, server, `${topic}-${kinds.indexOf(left)}${kinds.indexOf(right)}`));
      for (const { doc } of [a, b]) record(doc, updates);
      await Promise.all([a.synced(), b.synced()]);
      return { a, b, settled: () => converged([a.doc, b.doc], updates) };
    };
    const shows = (client, expected) =>
      eventually(
        () => JSON.stringify(asJson(client.doc)) === JSON.stringify(expected),
        () => `${client.kind} shows ${JSON.stringify(expected)}, not ${JSON.stringify(asJson(client.doc))}`,
      );

    test(`text with formats, embeds and emoji: ${left}, ${right}`, async (t) => {
      const { a, b, settled } = await duo(t, "text");
      a.text.insert(0, "Grüße 👩‍👩‍👧 an alle");
      a.text.format(0, 5, { bold: true });
      a.text.insertEmbed(5, { image: "cat.png" });
      await eventually(() => b.text.toDelta().length === 3, "b has the three parts");
      b.text.delete(0, 2);
      b.text.format(0, 3, { bold: null, link: "https://example.org" });
      await settled();
      assert.deepEqual(a.text.toDelta()[0], { insert: "üße", attributes: { link: "https://example.org" } });
    });

    test(`map, with every JSON type and bytes: ${left}, ${right}`, async (t) => {
      const { a, b, settled } = await duo(t, "map");
      const values = { text: "t", number: 1.5, negative: -7, big: 2 ** 52, yes: true, nothing: null, list: [1, [2]], object: { deep: { er: 1 } } };
      a.doc.transact(() => Object.entries(values).forEach(([key, value]) => a.doc.getMap("map:all").set(key, value)));
      a.doc.getMap("map:all").set("bytes", Uint8Array.of(0, 255, 7));
      b.doc.getMap("map:all");
      await eventually(() => b.doc.getMap("map:all").size === 9, "b has all keys");
      for (const [key, value] of Object.entries(values)) assert.deepEqual(b.doc.getMap("map:all").get(key), value);
      assert.deepEqual(b.doc.getMap("map:all").get("bytes"), Uint8Array.of(0, 255, 7));
      // The same key on both sides at once: one wins, the same one everywhere.
      a.doc.getMap("map:all").set("text", "of a");
      b.doc.getMap("map:all").set("text", "of b");
      b.doc.getMap("map:all").delete("number");
      await settled();
      assert.equal(a.doc.getMap("map:all").has("number"), false);
    });

    test(`array with nested types: ${left}, ${right}`, async (t) => {
      const { a, b, settled } = await duo(t, "array");
      const list = a.doc.getArray("array:list");
      b.doc.getArray("array:list");
      const nested = new Y.Map();
      list.push(["one", 2, nested, new Y.Array()]);
      nested.set("text", new Y.Text("inside"));
      list.get(3).push([true, null]);
      await shows(b, { "array:list": ["one", 2, { text: "inside" }, [true, null]] });
      b.doc.getArray("array:list").delete(0, 2);
      b.doc.getArray("array:list").get(0).get("text").insert(0, "now ");
      await shows(a, { "array:list": [{ text: "now inside" }, [true, null]] });
      await settled();
    });

    test(`XML with attributes, and its deletion: ${left}, ${right}`, async (t) => {
      const { a, b, settled } = await duo(t, "xml");
      const root = a.doc.getXmlFragment("xml:page");
      b.doc.getXmlFragment("xml:page");
      const paragraph = new Y.XmlElement("p");
      root.insert(0, [paragraph, new Y.XmlElement("hr")]);
      paragraph.setAttribute("class", "intro");
      paragraph.insert(0, [new Y.XmlText("hello")]);
      await shows(b, { "xml:page": '<p class="intro">hello</p><hr></hr>' });
      b.doc.getXmlFragment("xml:page").get(0).get(0).format(0, 5, { em: {} });
      b.doc.getXmlFragment("xml:page").get(0).removeAttribute("class");
      await shows(a, { "xml:page": "<p><em>hello</em></p><hr></hr>" });
      root.delete(0, 1);
      await shows(b, { "xml:page": "<hr></hr>" });
      await settled();
    });

    test(`undo takes back one's own only: ${left}, ${right}`, async (t) => {
      const { a, b, settled } = await duo(t, "undo");
      const undo = new Y.UndoManager(a.text, { captureTimeout: 0 });
      a.text.insert(0, "a writes");
      await eventually(() => b.text.length === 8, "b sees it");
      b.text.insert(8, ", b adds");
      await eventually(() => a.text.length === 16, "a sees that");
      undo.undo();
      await eventually(() => b.text.toString() === ", b adds", () => `only a's text is gone, not ${b.text}`);
      undo.redo();
      await eventually(() => b.text.toString() === "a writes, b adds", () => `a's text is back, not ${b.text}`);
      await settled();
    });
  }

  test("all kinds edit everything at once", async (t) => {
    const updates = [];
    const mixing = target === "stock" ? kinds.slice(0, 3) : kinds;
    const clients = mixing.map((kind) => connect(t, kind, server, "storm"));
    for (const { doc } of clients) record(doc, updates);
    await Promise.all(clients.map((client) => client.synced()));
    const random = (below) => Math.floor(Math.random() * below);
    const shared = (doc) => [doc.getText("text:t"), doc.getMap("map:m"), doc.getArray("array:a"), doc.getXmlFragment("xml:x")];
    const edit = ({ doc }) => {
      const [text, map, list, page] = shared(doc);
      const edits = [
        () => text.insert(random(text.length + 1), "abc".slice(random(3))),
        () => text.length > 4 && text.delete(random(text.length - 3), 3),
        () => text.length > 4 && text.format(random(text.length - 3), 3, { bold: random(2) ? true : null }),
        () => map.set(`key${random(5)}`, random(100)),
        () => map.delete(`key${random(5)}`),
        () => list.insert(random(list.length + 1), [random(100), new Y.Map([["k", random(9)]])]),
        () => list.length > 2 && list.delete(random(list.length - 1), 2),
        () => page.insert(random(page.length + 1), [new Y.XmlElement("p")]),
        () => page.length > 0 && page.get(random(page.length)).setAttribute("n", `${random(9)}`),
        () => page.length > 3 && page.delete(random(page.length - 1), 1),
      ];
      doc.transact(() => {
        for (let count = 1 + random(3); count > 0; count--) edits[random(edits.length)]();
      });
    };
    for (let round = 0; round < 150; round++) {
      for (const client of clients) edit(client);
      if (round % 5 === 0) await new Promise((done) => setTimeout(done, random(8)));
    }
    await converged(clients.map(({ doc }) => doc), updates);

    const newcomer = connect(t, mixing[0], server, "storm");
    shared(newcomer.doc);
    await newcomer.synced();
    await converged([newcomer.doc, clients[0].doc], updates);
  });
});
