// Tokens: who may write, who may read, who may nothing; and the next try on the same socket.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect, hocuspocusKinds, openSocket, yWebsocketKinds } from "./clients.mjs";
import { eventually, stays } from "./convergence.mjs";
import { staticAuth, startServer, stockFails, target, tokens } from "./server.mjs";

const plainAuth = () => stockFails("the y-websocket server knows no tokens");

describe("auth", { concurrency: 3 }, () => {
  for (const kind of hocuspocusKinds) {
    test(`a reader sees edits and makes none: ${kind}`, async (t) => {
      const server = await startServer(t, staticAuth);
      const writer = connect(t, "provider 4.8", server, "guarded", { token: tokens.write });
      const reader = connect(t, kind, server, "guarded", { token: tokens.read });
      await Promise.all([writer.synced(), reader.synced()]);
      assert.deepEqual([writer.verdicts, reader.verdicts], [["read-write"], ["readonly"]]);

      writer.text.insert(0, "from the writer");
      await writer.saved();
      await eventually(() => reader.text.toString() === "from the writer", "the reader sees the edit");
      // Having read is not an unsaved change.
      await eventually(() => !reader.provider.hasUnsyncedChanges, "the reader has nothing unsaved");

      reader.text.insert(0, "reader's ");
      await stays(() => reader.provider.hasUnsyncedChanges, "the refused edit stays unsaved");
      await stays(() => writer.text.toString() === "from the writer", "the edit reaches nobody");
      assert.deepEqual(reader.closes, [], "the reader stays connected");
      writer.text.insert(15, "!");
      await eventually(() => reader.text.toString().endsWith("writer!"), "and goes on reading");

      const fresh = connect(t, "provider 4.8", server, "guarded", { token: tokens.write });
      await eventually(() => fresh.text.toString() === "from the writer!", "nothing of it is in the document");
    });

    test(`a wrong token is refused, the socket stays: ${kind}`, async (t) => {
      const server = await startServer(t, staticAuth);
      const socket = openSocket(t, kind, server);
      const refused = connect(t, kind, server, "guarded", { socket, token: "wrong" });
      const admitted = connect(t, kind, server, "open", { socket, token: tokens.write });
      await eventually(() => refused.verdicts.length > 0, "a verdict");
      assert.match(refused.verdicts[0], /^failed: ./);
      await admitted.synced();
      admitted.text.insert(0, "works");
      await admitted.saved();
      assert.deepEqual(admitted.closes, []);
      assert.equal(refused.provider.synced, false);
    });
  }

  // The state of 2.15 after a refusal is detached: it has to be made anew, as applications of that time did.
  test("the next token on the same socket is tried afresh", async (t) => {
    const server = await startServer(t, staticAuth);
    const socket = openSocket(t, "provider 4.8", server);
    let token = "wrong";
    const client = connect(t, "provider 4.8", server, "guarded", { socket, token: () => token });
    await eventually(() => client.verdicts.length === 1, "the first verdict");
    token = tokens.write;
    await client.provider.sendToken();
    client.provider.startSync();
    await client.saved();
    assert.deepEqual(client.verdicts, ["failed: permission-denied", "read-write"]);
    assert.deepEqual(client.closes, []);
  });

  const staleClose = stockFails("it keeps the CLOSE of the refused provider and ends the next one with it");
  test("a provider made anew after a refusal gets in on the same socket", staleClose, async (t) => {
    const server = await startServer(t, staticAuth);
    for (const kind of hocuspocusKinds) {
      const socket = openSocket(t, kind, server);
      const first = connect(t, kind, server, "guarded", { socket, token: "wrong" });
      await eventually(() => first.verdicts.length === 1, "the first verdict");
      first.destroy();
      const second = connect(t, kind, server, "guarded", { socket, token: tokens.write });
      await second.saved();
      assert.deepEqual(second.verdicts, ["read-write"], kind);
    }
  });

  test("what was sent ahead with a wrong token is not applied later", async (t) => {
    const server = await startServer(t, staticAuth);
    const intruder = connect(t, "provider 4.8", server, "guarded", { token: "wrong" });
    intruder.text.insert(0, "smuggled");
    await eventually(() => intruder.verdicts.length === 1, "the verdict");
    intruder.text.insert(0, "more ");
    const owner = connect(t, "provider 4.8", server, "guarded", { token: tokens.write });
    await owner.saved();
    await stays(() => owner.text.toString() === "", "nothing of the intruder's is there");
    assert.deepEqual(intruder.present(), []);
  });

  test("an empty token is refused where tokens are asked for", async (t) => {
    const server = await startServer(t, staticAuth);
    for (const token of ["", null]) {
      const client = connect(t, "provider 4.8", server, "guarded", { token });
      await eventually(() => client.verdicts[0]?.startsWith("failed"), "it is refused");
    }
  });

  for (const kind of ["provider 3.4", "provider 4.8"]) {
    test(`without authentication an empty token is enough: ${kind}`, async (t) => {
      const server = await startServer(t);
      const client = connect(t, kind, server, "free", { token: null });
      client.text.insert(0, "x");
      await client.saved();
    });
  }

  test("2.15 without a token, which never sends one, gets in where none is asked for", stockFails("it waits for a token for ever"), async (t) => {
    const server = await startServer(t);
    const client = connect(t, "provider 2.15", server, "free", { token: null });
    client.text.insert(0, "x");
    await client.saved();
    const other = connect(t, "provider 4.8", server, "free");
    await eventually(() => other.text.toString() === "x", "its text is there");
  });

  test("a provider's token may come late", async (t) => {
    const server = await startServer(t, staticAuth);
    const token = () => new Promise((done) => setTimeout(() => done(tokens.write), 300));
    const client = connect(t, "provider 4.8", server, "guarded", { token });
    client.text.insert(0, "typed while the token was fetched");
    await client.saved();
    assert.deepEqual(client.verdicts, ["read-write"]);
  });

  for (const kind of yWebsocketKinds) {
    test(`a reader sees edits and makes none: ${kind}`, plainAuth(), async (t) => {
      const server = await startServer(t, staticAuth);
      const writer = connect(t, kind, server, "guarded", { token: tokens.write });
      const reader = connect(t, kind, server, "guarded", { token: tokens.read });
      await Promise.all([writer.synced(), reader.synced()]);
      writer.text.insert(0, "from the writer");
      await eventually(() => reader.text.toString() === "from the writer", "the reader sees the edit");
      reader.text.insert(0, "reader's ");
      await stays(() => writer.text.toString() === "from the writer", "the edit reaches nobody");
      assert.deepEqual(reader.closes, []);
    });

    test(`a wrong token closes with 4401: ${kind}`, plainAuth(), async (t) => {
      const server = await startServer(t, staticAuth);
      for (const token of ["wrong", ""]) {
        const client = connect(t, kind, server, "guarded", { token });
        await eventually(() => client.closes.length > 0, "the close");
        assert.equal(client.closes[0].code, 4401);
        assert.notEqual(client.closes[0].reason, "");
        assert.equal(client.provider.synced, false);
        client.destroy();
      }
    });
  }

  test("y-websocket 3.1 stops for good after 4401 and says so", plainAuth(), async (t) => {
    const server = await startServer(t, staticAuth);
    const client = connect(t, "y-websocket 3.1", server, "guarded", { token: "wrong" });
    const closed = await new Promise((done) => client.provider.once("closed", done));
    assert.equal(closed.code, 4401);
    await stays(() => client.closes.length === 1, "it does not come back", 1_500);
  });

  test("tokens are in no log line", async (t) => {
    if (target === "stock") return t.skip("stock logs nothing");
    const server = await startServer(t, { ...staticAuth, LOG_LEVEL: "debug", NODE_ENV: "development" });
    await connect(t, "provider 4.8", server, "a", { token: tokens.write }).synced();
    await connect(t, "y-websocket 3.1", server, "a", { token: tokens.read }).synced();
    const wrong = connect(t, "provider 4.8", server, "a", { token: "wrong-but-secret" });
    await eventually(() => wrong.verdicts.length > 0, "a verdict");
    await server.kill("SIGTERM");
    for (const secret of [tokens.write, tokens.read, "wrong-but-secret"]) {
      assert.ok(!(server.stdout + server.stderr).includes(secret), `${secret} is logged`);
    }
  });
});
