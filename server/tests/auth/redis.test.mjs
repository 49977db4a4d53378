// Better Auth with a secondaryStorage: sessions are in Redis and nowhere else. With the official storage and its prefix, and with
// one as Better Auth's documentation shows it, without.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { redisStorage } from "@better-auth/redis-storage";
import { secret, startBetterAuth } from "./better-auth.mjs";
import { introduce, knock } from "./knock.mjs";
import { startPostgres } from "./postgres.mjs";
import { password, startRedis } from "./redis.mjs";
import { connect } from "../provider/clients.mjs";
import { eventually, stays } from "../provider/convergence.mjs";
import { hello, openRaw } from "../provider/raw.mjs";
import { launch } from "../provider/server.mjs";

const recheck_ms = 1000;
const revoked_ms = recheck_ms + 5000;

const bare = (client) => ({
  get: (key) => client.get(key),
  set: (key, value, ttl) => (ttl ? client.set(key, value, "EX", ttl) : client.set(key, value)),
  delete: async (key) => void (await client.del(key)),
});

const storages = {
  "1.4.18": { prefix: "", setting: "none", storage: bare },
  "1.7.25": { prefix: "better-auth:", setting: "", storage: (client) => redisStorage({ client }) },
};

let postgres;
before(async () => (postgres = await startPostgres()));
after(() => postgres.stop());

for (const [version, { prefix, setting, storage }] of Object.entries(storages)) {
  describe(`Better Auth ${version}, sessions in Redis`, () => {
    let database, redis, auth, server, page;

    before(async () => {
      redis = await startRedis();
      database = await postgres.database(`redis_${version.replaceAll(".", "_")}`);
      const secondaryStorage = storage(redis.client);
      auth = await startBetterAuth({ version, adapter: "built-in" }, database, undefined, { secondaryStorage });
      server = await launch({
        WS_AUTH: "better-auth", BETTER_AUTH_SECRET: secret, BETTER_AUTH_URL: auth.baseURL, DATABASE_URL: "memory:",
        WS_AUTH_DATABASE_URL: database.url, WS_AUTH_REDIS_URL: redis.url, WS_AUTH_REDIS_PREFIX: setting,
        WS_AUTH_RECHECK_MS: `${recheck_ms}`,
      });
      page = { origin: auth.baseURL };
    });
    after(async () => {
      if (process.env.SHOW_LOG) console.log(server.stdout, server.stderr);
      await server.remove();
      await auth.stop();
      await redis.stop();
    });

    const stored = async ({ token }) => JSON.parse(await redis.client.get(prefix + token));
    const store = ({ token }, value, ms = 60_000) => redis.client.set(prefix + token, JSON.stringify(value), "PX", ms);
    const bearer = ({ token }) => ({ authorization: `Bearer ${token}` });
    async function administrator() {
      const user = await auth.signUp();
      await database.query(`update "user" set role = 'admin' where id = $1`, [user.id]);
      await store(user, { ...(await stored(user)), user: { ...(await stored(user)).user, role: "admin" } });
      const call = (path, body) => auth.call(path, { body, headers: { cookie: user.cookie } });
      return { setRole: (userId, role) => call("/admin/set-role", { userId, role }), ban: (userId) => call("/admin/ban-user", { userId }) };
    }
    /** A provider and a bare socket of one user on one document. */
    async function open(t, name, user) {
      const raw = await openRaw(t, server, `/${name}?token=${user.token}`);
      raw.send(hello.plainStep1);
      const client = connect(t, "provider 4.8", server, name, { token: user.token });
      await client.synced();
      await eventually(() => raw.frames.length > 0, "the bare socket is open");
      const ended = async (what, code) => {
        await eventually(() => raw.isClosed && client.closes.length > 0, `the end after ${what}`, revoked_ms);
        assert.equal((await raw.closed).code, code, what);
      };
      return { client, raw, ended };
    }

    test("every way to show a session opens a document, and the database has none", async (t) => {
      const user = await auth.signUp();
      assert.equal(await knock(t, server, "/room", { cookie: user.cookie, ...page }), "open", "cookie");
      assert.equal(await knock(t, server, "/room", bearer(user)), "open", "raw bearer");
      assert.equal(await knock(t, server, "/room", { authorization: `Bearer ${user.signed}` }), "open", "signed bearer");
      assert.equal(await knock(t, server, `/room?token=${user.token}`), "open", "query");
      assert.equal(await introduce(t, server, "room", user.token), "open", "Auth message");
      assert.equal(await introduce(t, server, "room", await auth.jwt(user)), "open", "JWT, whose user is in the database");
      const [{ found }] = await database.query("select to_regclass('session') is not null as found");
      if (found) assert.deepEqual(await database.query("select 1 from session"), []);
    });

    test("what is no session opens nothing", async (t) => {
      const user = await auth.signUp();
      assert.equal(await knock(t, server, `/room?token=${user.token}x`), 4401, "unknown token");
      assert.equal(await knock(t, server, "/room", { cookie: user.cookie, origin: "https://evil.example" }), 4403, "foreign origin");
      assert.equal(await knock(t, server, `/room?token=active-sessions-${user.id}`), 4401, "another key of Better Auth's");
      const value = await stored(user);
      await store(user, { ...value, session: { ...value.session, expiresAt: new Date(Date.now() - 1000).toISOString() } });
      assert.equal(await knock(t, server, "/room", bearer(user)), 4401, "expired, but still there");
      await store(user, { ...value, user: { ...value.user, banned: true } });
      assert.equal(await knock(t, server, "/room", bearer(user)), 4403, "banned");
      await store(user, { ...value, user: null });
      assert.equal(await knock(t, server, "/room", bearer(user)), 4401, "without its user");
    });

    test("a role in Redis counts, and its change shows while connected", async (t) => {
      const [admin, user] = [await administrator(), await auth.signUp()];
      const { client } = await open(t, "roles", user);
      assert.deepEqual(client.verdicts, ["read-write"]);
      await admin.setRole(user.id, "viewer");
      assert.equal((await stored(user)).user.role, "viewer");
      await eventually(() => client.verdicts.at(-1) === "readonly", "the client is told", revoked_ms);
      assert.deepEqual(client.closes, []);
      await eventually(() => server.stdout.includes('"role": "editor"'), "the role is logged");
    });

    test("sign-out, ban, expiry and a lost key end open sessions in time", async (t) => {
      const admin = await administrator();
      const ends = {
        "sign-out": [(user) => auth.signOut(user), 4401],
        ban: [(user) => admin.ban(user.id), 4401],
        expiry: [(user) => redis.client.pexpire(prefix + user.token, 1), 4401],
        "a ban in the value": [async (user) => store(user, { ...(await stored(user)), user: { ...(await stored(user)).user, banned: true } }), 4403],
      };
      for (const [what, [end, code]] of Object.entries(ends)) {
        const user = await auth.signUp();
        const { client, raw, ended } = await open(t, "live", user);
        await stays(() => !raw.isClosed && client.closes.length === 0, "both stay");
        await end(user);
        await ended(what, code);
      }
    });

    test("a session that was revoked does not come back with its value", async (t) => {
      const user = await auth.signUp();
      const value = await stored(user);
      const note = (ms) => redis.client.set(`${prefix}revoked-sessions-before-${user.id}`, `${ms}`, "EX", 60);
      const created = new Date(value.session.createdAt).getTime();
      await note(created);
      assert.equal(await knock(t, server, "/room", bearer(user)), "open", "made at that very moment");
      await note(created + 1);
      assert.equal(await knock(t, server, "/room", bearer(user)), 4401);
    });

    test("while Redis is away nobody new is let in and nobody is thrown out; it is asked again when it is back", async (t) => {
      const [inside, outside] = [await auth.signUp(), await auth.signUp()];
      const { client, raw } = await open(t, "outage", inside);
      await redis.down();
      assert.equal(await knock(t, server, "/outage", bearer(outside)), 1013, "invited to come back");
      await stays(() => !raw.isClosed && client.closes.length === 0, "who is in stays", 2 * recheck_ms);
      await redis.up();
      assert.equal(await knock(t, server, "/outage", bearer(outside)), "open", "at the first try");
      redis.pause();
      try {
        assert.equal(await knock(t, server, "/outage", bearer(outside)), 1013, "a silent Redis has a deadline");
      } finally {
        redis.resume();
      }
      await eventually(async () => (await knock(t, server, "/outage", bearer(outside))) === "open", "it answers again");
      await auth.signOut(inside);
      await eventually(() => raw.isClosed && client.closes.length > 0, "and open sessions are checked again", revoked_ms);
    });

    test("the log shows neither tokens nor the password", async (t) => {
      const user = await auth.signUp();
      await knock(t, server, `/room?token=${user.token}`);
      const log = server.stdout + server.stderr;
      assert.match(log, /WebSocket client authenticated/);
      for (const shown of [user.token, password]) assert.ok(!log.includes(shown), shown);
    });
  });
}

test("a Redis that is not there at the start does not keep the server from starting", async (t) => {
  const server = await launch({
    WS_AUTH: "better-auth", BETTER_AUTH_SECRET: secret, DATABASE_URL: "memory:", WS_AUTH_DATABASE_URL: "postgres://nobody@127.0.0.1:9/none",
    WS_AUTH_REDIS_URL: "redis://127.0.0.1:9",
  });
  try {
    assert.equal(await knock(t, server, "/room?token=abc"), 1013);
  } finally {
    await server.remove();
  }
});
