// Presence: who sees it, when it ends, and that nobody can keep or end another's.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect, kinds, openSocket, yWebsocketKinds } from "./clients.mjs";
import { eventually, stays } from "./convergence.mjs";
import { staticAuth, startServer, stockFails, target, tokens } from "./server.mjs";

describe("awareness", { concurrency: 3 }, () => {
  for (const kind of kinds) {
    test(`ends when the socket dies: ${kind}`, async (t) => {
      const server = await startServer(t);
      const a = connect(t, kind, server, "presence").introduce("ann");
      const b = connect(t, kind, server, "presence", { abortable: true }).introduce("bob");
      await eventually(() => a.present().join() === "ann,bob", "both are present");
      b.cut();
      await eventually(() => a.present().join() === "ann", () => `bob's presence ends, not ${a.present()}`);
    });

    const nullIsLost = kind.startsWith("provider") ? stockFails("null states are dropped when encoded again") : {};
    test(`setLocalState(null) reaches the others: ${kind}`, nullIsLost, async (t) => {
      const server = await startServer(t);
      const a = connect(t, kind, server, "presence").introduce("ann");
      const b = connect(t, kind, server, "presence").introduce("bob");
      await eventually(() => a.present().join() === "ann,bob", "both are present");
      b.awareness.setLocalState(null);
      await eventually(() => a.present().join() === "ann", () => `bob is gone, not ${a.present()}`);
      // And back again, with a higher clock than the end had.
      b.awareness.setLocalState({ user: { name: "bob again" } });
      await eventually(() => a.present().join() === "ann,bob again", () => `bob is back, not ${a.present()}`);
    });

    test(`is echoed to its sender: ${kind}`, async (t) => {
      const server = await startServer(t);
      const a = connect(t, kind, server, "presence");
      await a.synced();
      const lastMessage_ms = () => (a.provider.wsLastMessageReceived ?? a.socket.lastMessageReceived);
      // Alone on the document: what comes after a quiet moment can only be the echo.
      await new Promise((done) => setTimeout(done, 300));
      const before = lastMessage_ms();
      // Each time by stock, every five seconds by us.
      let moves = 0;
      const moving = setInterval(() => a.introduce(`ann ${moves++}`), 500);
      t.after(() => clearInterval(moving));
      await eventually(() => lastMessage_ms() > before, "a message follows one's own awareness", 10_000);
    });
  }

  // Providers send others' states too: 2.15, 3.4 and y-websocket pass on every change that they see. The state stays its author's.
  for (const echoing of kinds) {
    const skip = target === "stock" && yWebsocketKinds.includes(echoing) && "stock fails: its two servers share no document";
    test(`a leaver takes only itself along: ${echoing}`, { skip }, async (t) => {
      const server = await startServer(t);
      const a = connect(t, "provider 4.8", server, "presence").introduce("ann");
      const b = connect(t, echoing, server, "presence", { abortable: true }).introduce("bob");
      const c = connect(t, "provider 4.8", server, "presence").introduce("cem");
      for (const client of [a, b, c]) {
        await eventually(() => client.present().join() === "ann,bob,cem", () => `all are present, not ${client.present()}`);
      }
      a.awareness.setLocalStateField("cursor", 7);
      await eventually(() => [...b.awareness.getStates().values()].some(({ cursor }) => cursor === 7), "b saw a's cursor");
      b.cut();
      for (const client of [a, c]) {
        await eventually(() => client.present().join() === "ann,cem", () => `only b is gone, not ${client.present()}`);
      }
      await stays(() => c.present().join() === "ann,cem" && a.present().join() === "ann,cem", "the others stay");
    });
  }

  test("a newcomer sees everybody at once, without their help", async (t) => {
    const server = await startServer(t);
    const a = connect(t, "provider 4.8", server, "presence").introduce("ann");
    const b = connect(t, "provider 3.4", server, "presence").introduce("bob");
    await eventually(() => a.present().join() === "ann,bob" && b.present().join() === "ann,bob", "both are present");
    for (const { awareness } of [a, b]) clearInterval(awareness._checkInterval);
    const c = connect(t, "provider 4.8", server, "presence");
    await eventually(() => c.present().join() === "ann,bob", () => `the newcomer sees both, not ${c.present()}`);
  });

  test("the presence of a reader is seen", async (t) => {
    const server = await startServer(t, staticAuth);
    const writer = connect(t, "provider 4.8", server, "presence", { token: tokens.write }).introduce("ann");
    connect(t, "provider 4.8", server, "presence", { token: tokens.read }).introduce("rea");
    await eventually(() => writer.present().join() === "ann,rea", () => `both are present, not ${writer.present()}`);
  });

  test("ends for every document of a socket that dies", async (t) => {
    const server = await startServer(t);
    const socket = openSocket(t, "provider 4.8", server, { abortable: true });
    const names = ["one", "two", "three"];
    const leavers = names.map((name) => connect(t, "provider 4.8", server, name, { socket }).introduce("bob"));
    const watchers = names.map((name) => connect(t, "provider 4.8", server, name).introduce("ann"));
    for (const watcher of watchers) await eventually(() => watcher.present().join() === "ann,bob", "both are present");
    leavers[0].cut();
    for (const watcher of watchers) {
      await eventually(() => watcher.present().join() === "ann", () => `bob is gone from ${watcher.name}`);
    }
    assert.equal(watchers.length, 3);
  });
});
