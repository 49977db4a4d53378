// Time alone: who is quiet but alive stays connected, who never says who he is goes. Slow by nature, all at once.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect as connectTcp } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, kinds } from "./clients.mjs";
import { eventually } from "./convergence.mjs";
import { closedForAReason, frame, hello, openRaw, wire } from "./raw.mjs";
import { staticAuth, startServer, stockFails } from "./server.mjs";

// Providers give a silent server up after 30 s, and the server a silent client after 60 s. How long a client may take to be
// let in is set here, as its default depends on the authentication.
const alone_ms = 70_000;
const deadline_ms = 60_000;
const slack_ms = 8_000;
const auth_deadline_ms = 40_000;
const deadline = { WS_AUTH_TIMEOUT_MS: `${auth_deadline_ms}` };

const lateCheck = stockFails("it looks only once a minute, so that the deadline is up to two");

describe("alone", { concurrency: true }, () => {
  for (const kind of kinds) {
    test(`a client alone on its document for 70 s is not dropped: ${kind}`, async (t) => {
      const server = await startServer(t);
      const client = connect(t, kind, server, "alone").introduce("ann");
      await client.synced();
      let disconnects = 0;
      (client.socket ?? client.provider).on("status", ({ status }) => (disconnects += status !== "connected"));
      await sleep(alone_ms);
      assert.deepEqual([disconnects, client.closes], [0, []]);
      client.text.insert(0, "still here");
      await client.saved();
      const other = connect(t, kind, server, "alone");
      await eventually(() => other.text.toString() === "still here", "and its edits arrive");
      await eventually(() => other.present().join() === "ann", "and it is still present");
    });
  }

  test("who only talks and never authenticates is closed at the deadline", lateCheck, async (t) => {
    const server = await startServer(t, { ...staticAuth, ...deadline });
    const raw = await openRaw(t, server);
    const talking = setInterval(() => raw.send(hello.step1("guarded")), 2_000);
    t.after(() => clearInterval(talking));
    await stillOpenThenClosed(raw, "a flood without a token", auth_deadline_ms);
  });

  test("who says nothing at all is closed at the deadline", lateCheck, async (t) => {
    const server = await startServer(t, deadline);
    await stillOpenThenClosed(await openRaw(t, server), "silence", auth_deadline_ms);
  });

  test("who fails to authenticate and stays is closed at the deadline", lateCheck, async (t) => {
    const server = await startServer(t, { ...staticAuth, ...deadline });
    const raw = await openRaw(t, server);
    const trying = setInterval(() => raw.send(hello.auth("guarded", "wrong")), 10_000);
    t.after(() => clearInterval(trying));
    await stillOpenThenClosed(raw, "wrong tokens", auth_deadline_ms);
  });

  test("where tokens are asked for, ten seconds are enough by default", lateCheck, async (t) => {
    const server = await startServer(t, staticAuth);
    await stillOpenThenClosed(await openRaw(t, server), "silence", 10_000);
  });

  test("who was let in and falls silent is closed as idle", lateCheck, async (t) => {
    const server = await startServer(t);
    const raw = await openRaw(t, server, "/", { autoPong: false });
    raw.send(hello.auth("quiet"), hello.step1("quiet"), frame("quiet", wire.queryAwareness));
    await stillOpenThenClosed(raw, "silence after a join", deadline_ms);
  });

  const halfOpen = stockFails("half-open handshakes stay open");
  test("a handshake that never ends is closed", halfOpen, async (t) => {
    const server = await startServer(t);
    const socket = connectTcp(server.port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nHost: x\r\n"));
    t.after(() => socket.destroy());
    let open = true;
    socket.on("error", () => {});
    socket.on("close", () => (open = false));
    // A byte now and then must not buy more time.
    const dripping = setInterval(() => open && socket.write("X"), 3_000);
    t.after(() => clearInterval(dripping));
    socket.resume();
    await eventually(() => !open, "the connection is closed", deadline_ms + slack_ms);
  });
});

async function stillOpenThenClosed(raw, what, after_ms) {
  let closed = false;
  raw.closed.then(() => (closed = true));
  await sleep(after_ms / 2);
  assert.equal(closed, false, `${what}: not before its time`);
  await eventually(() => closed, `${what} is ended`, after_ms / 2 + slack_ms);
  const { code } = await closedForAReason(raw, what);
  assert.ok(code === 4401 || code === 4408, `${what}: ${code}`);
}
