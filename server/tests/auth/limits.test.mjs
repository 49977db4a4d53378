// What strangers can cost: bare connects, floods of them, too many sockets, too many updates. And a crowd of logins.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { secret, startBetterAuth } from "./better-auth.mjs";
import { startPostgres } from "./postgres.mjs";
import { knock } from "./knock.mjs";
import { connect } from "../provider/clients.mjs";
import { eventually, stays } from "../provider/convergence.mjs";
import { frame, hello, openRaw, wire } from "../provider/raw.mjs";
import { startServer } from "../provider/server.mjs";

let postgres, database, auth, environment;
before(async () => {
  postgres = await startPostgres();
  database = await postgres.database("limits");
  auth = await startBetterAuth({ version: "1.7.25", adapter: "drizzle" }, database);
  environment = { WS_AUTH: "better-auth", BETTER_AUTH_SECRET: secret, BETTER_AUTH_URL: auth.baseURL, DATABASE_URL: database.url };
});
after(async () => {
  await auth.stop();
  await postgres.stop();
});

const health = async (server) => (await fetch(`http://127.0.0.1:${server.healthPort}/health`)).json();
const figure = async (server, name) => {
  const text = await (await fetch(`http://127.0.0.1:${server.healthPort}/metrics`)).text();
  return Number(text.split("\n").find((line) => line.startsWith(`fidibus_${name} `))?.split(" ")[1]);
};

describe("limits", () => {
  test("10,000 bare connects from one address end with 4401 and leave nothing", async (t) => {
    const server = await startServer(t, environment);
    const flood = async (count) => {
      for (let done = 0; done < count; done += 50) {
        const codes = await Promise.all(Array.from({ length: 50 }, (_, i) => knock(t, server, `/bare-${done + i}`)));
        assert.ok(codes.every((code) => code === 4401), `${codes}`);
      }
    };
    await flood(2000);
    const before = (await health(server)).memory.rss;
    await flood(8000);
    await eventually(async () => (await health(server)).sockets === 0, "all sockets are gone");
    const grown = (await health(server)).memory.rss - before;
    t.diagnostic(`memory grew by ${grown} bytes`);
    assert.ok(grown < 4 * 1024 * 1024, `memory grew by ${grown} bytes`);
    assert.equal((await health(server)).connections.documents, 0);
    assert.equal(await figure(server, "documents_loaded"), 0);
    assert.ok((await figure(server, "auth_denied_total")) >= 10_000);
    assert.deepEqual(await database.query("select id from yjs_document where id like 'bare-%'"), []);
  });

  test("a client that never says anything is closed with 4401 at the deadline", async (t) => {
    const server = await startServer(t, { ...environment, WS_AUTH_TIMEOUT_MS: "500" });
    const raw = await openRaw(t, server, "/silent");
    assert.equal((await raw.closed).code, 4401);
    assert.equal(await figure(server, "auth_timeouts_total"), 1);
  });

  // What they cost is measured by benches/src/bin/logins.rs, on a machine that does nothing else.
  test("1,000 logins in a second are all let in, over no more than the pool's connections", async (t) => {
    const server = await startServer(t, { ...environment, WS_MAX_CONNECTIONS_PER_USER: "2000", WS_AUTH_TIMEOUT_MS: "60000" });
    const user = await auth.signUp();
    let connections = 0, watching = true;
    const watch = (async () => {
      while (watching) {
        const [{ count }] = await database.query("select count(*)::int from pg_stat_activity where application_name = 'fidibus-auth'");
        connections = Math.max(connections, count);
        await sleep(20);
      }
    })();
    const sockets = await Promise.all(Array.from({ length: 1000 }, async (_, i) => {
      await sleep(i);
      const raw = await openRaw(t, server, `/room?token=${user.token}`);
      raw.send(hello.plainStep1);
      return raw;
    }));
    await eventually(() => sockets.every((raw) => raw.isClosed || raw.frames.length > 0), "an answer to each", 90_000);
    watching = false;
    await watch;
    assert.equal(sockets.filter((raw) => !raw.isClosed && raw.frames[0][0] === 0).length, 1000);
    assert.ok(connections > 0 && connections <= 4, `${connections} connections`);
  });

  test("a user has so many sockets, whatever the number of documents", async (t) => {
    const server = await startServer(t, { ...environment, WS_MAX_CONNECTIONS_PER_USER: "2" });
    const [user, other] = [await auth.signUp(), await auth.signUp()];
    const open = async () => {
      const raw = await openRaw(t, server, `/room?token=${user.token}`);
      raw.send(hello.plainStep1);
      await eventually(() => raw.frames.length > 0, "it is open");
      return raw;
    };
    const [first] = [await open(), await open()];
    assert.equal(await knock(t, server, `/room?token=${user.token}`), 1013);
    assert.equal(await knock(t, server, `/room?token=${other.token}`), "open");
    assert.equal(await figure(server, "connections_refused_total"), 1);
    first.socket.close();
    await eventually(async () => (await knock(t, server, `/room?token=${user.token}`)) === "open", "there is room again");
  });

  test("an address has so many sockets, and is banned when it comes too often", async (t) => {
    const few = await startServer(t, { WS_AUTH: "none", WS_MAX_CONNECTIONS_PER_IP: "2" });
    const sockets = [await openRaw(t, few, "/a"), await openRaw(t, few, "/b")];
    const refused = (server, headers) =>
      new Promise((done) => {
        const url = `http://127.0.0.1:${server.port}/c`;
        import("node:http").then(({ get }) => {
          const upgrade = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==" };
          const request = get(url, { headers: { ...upgrade, ...headers } }, (response) => done(response.statusCode));
          request.on("upgrade", (response, socket) => (socket.destroy(), done(response.statusCode)));
        });
      });
    assert.equal(await refused(few), 429);
    // Behind the proxy it is the client that counts.
    assert.equal(await refused(few, { "x-forwarded-for": "203.0.113.7" }), 101);
    sockets[0].socket.close();
    await eventually(async () => (await refused(few)) === 101, "there is room again");

    const often = await startServer(t, { WS_AUTH: "none", WS_MAX_CONNECTS_PER_MINUTE: "3", WS_CONNECT_BAN_MS: "1000" });
    const answers = [];
    for (let i = 0; i < 5; i++) answers.push(await refused(often));
    assert.deepEqual(answers, [101, 101, 101, 429, 429]);
    assert.equal(await figure(often, "connections_not_admitted_total"), 2);
    await sleep(1100);
    assert.equal(await refused(often), 101);
  });

  test("guessing tokens ends in a ban that does not touch who holds a signed one", async (t) => {
    const server = await startServer(t, environment);
    const user = await auth.signUp();
    const codes = [];
    for (let i = 0; i < 40; i++) codes.push(await knock(t, server, `/room?token=guess${i}`));
    assert.equal(codes[0], 4401);
    assert.equal(codes.at(-1), 1013);
    assert.equal(await knock(t, server, `/room?token=${user.signed}`), "open");
  });

  test("who types too fast is slowed down, loses nothing, and is closed only when it goes on", async (t) => {
    const server = await startServer(t, { WS_AUTH: "none", WS_MAX_UPDATES_PER_SECOND: "50", WS_MAX_PUSH_MS: "4000" });
    const [fast, witness] = [connect(t, "provider 4.8", server, "fast"), connect(t, "provider 4.8", server, "fast")];
    await Promise.all([fast.synced(), witness.synced()]);
    // 250 at once are a burst; the rest comes at the rate.
    for (let i = 0; i < 330; i++) fast.text.insert(0, "x");
    await stays(() => witness.text.length < 330, "it is slowed down", 300);
    await eventually(() => witness.text.length === 330, "nothing is lost");
    assert.deepEqual(fast.closes, []);
    assert.ok((await figure(server, "rate_pauses_total")) > 0);

    const pushing = setInterval(() => {
      for (let i = 0; i < 20; i++) fast.text.insert(0, "y");
    }, 50);
    try {
      await eventually(async () => (await figure(server, "rate_closes_total")) > 0, "it is closed");
    } finally {
      clearInterval(pushing);
    }
    await eventually(() => fast.closes.some(({ code }) => code === 1013), "with a code that lets it come back");
    await eventually(() => witness.text.toString() === fast.text.toString(), "and nothing is lost in the end", 60_000);
  });

  test("a socket has so many documents, and a client so much awareness", async (t) => {
    const server = await startServer(t, { WS_AUTH: "none", WS_MAX_DOCUMENTS_PER_CONNECTION: "2", WS_MAX_AWARENESS_BYTES: "2000" });
    const raw = await openRaw(t, server);
    const verdicts = async (name) => {
      raw.send(hello.auth(name));
      const mine = () => raw.messages().filter(({ address, type }) => address === name && type === wire.auth);
      return (await eventually(() => mine().length > 0 && mine(), "an answer")).map(({ rest }) => rest[0]);
    };
    assert.deepEqual([await verdicts("one"), await verdicts("two"), await verdicts("three")], [[2], [2], [1]]);
    assert.equal(await figure(server, "documents_refused_total"), 1);
    raw.send(frame("two", wire.close, "bye"));
    await eventually(async () => (await health(server)).connections.active === 1, "it has left one");
    assert.deepEqual(await verdicts("four"), [2]);

    const [author, witness] = [connect(t, "provider 4.8", server, "aware"), connect(t, "provider 4.8", server, "aware")];
    await Promise.all([author.synced(), witness.synced()]);
    author.introduce("x".repeat(100));
    await eventually(() => witness.present().length === 1, "a small state is passed on");
    const before = await figure(server, "protocol_errors_total");
    author.introduce("x".repeat(3000));
    await eventually(async () => (await figure(server, "protocol_errors_total")) > before, "a large one is refused");
    assert.ok(witness.present().every((name) => name.length <= 100), "and reaches nobody");
  });

  test("so many sockets are served, and no more", async (t) => {
    const server = await startServer(t, { WS_AUTH: "none", WS_MAX_CONNECTIONS: "2" });
    const held = [await openRaw(t, server, "/a"), await openRaw(t, server, "/b")];
    const status = async () => (await fetch(`http://127.0.0.1:${server.port}/nothing`, { headers: { connection: "close" } })).status;
    assert.equal(await status(), 503);
    assert.equal(await figure(server, "connections_not_served_total"), 1);
    held[0].socket.close();
    await eventually(async () => (await status()) === 404, "there is room again");
  });

  test("whoever sends too many bytes is slowed down and closed as well", async (t) => {
    const server = await startServer(t, { WS_AUTH: "none", WS_MAX_BYTES_PER_SECOND: "100000", WS_MAX_PUSH_MS: "2000" });
    const client = connect(t, "provider 4.8", server, "bytes");
    await client.synced();
    const pushing = setInterval(() => client.text.insert(0, "z".repeat(50_000)), 50);
    try {
      await eventually(() => client.closes.some(({ code }) => code === 1013), "closed, to come back");
    } finally {
      clearInterval(pushing);
    }
    assert.ok((await figure(server, "rate_pauses_total")) > 0 && (await figure(server, "rate_closes_total")) > 0);
  });
});
