// Who Better Auth knows gets in, whoever it does not stays out, and who is out later is out here as well: for both versions
// and both adapters, signed up over HTTP, on a real PostgreSQL whose time zone is not UTC.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { installations, secret, startBetterAuth } from "./better-auth.mjs";
import { startPostgres } from "./postgres.mjs";
import { connect } from "../provider/clients.mjs";
import { eventually, stays } from "../provider/convergence.mjs";
import { introduce, knock } from "./knock.mjs";
import { hello, openRaw } from "../provider/raw.mjs";
import { launch } from "../provider/server.mjs";

const adminToken = "the-token-of-the-operator";
const recheck_ms = 1000;
// The promise is one interval; the rest is the machine that builds something else at the same time.
const revoked_ms = recheck_ms + 5000;

const tampered = (signed) => {
  const dot = signed.lastIndexOf(".") + 1;
  return signed.slice(0, dot) + (signed[dot] === "A" ? "B" : "A") + signed.slice(dot + 1);
};

let postgres;
before(async () => (postgres = await startPostgres()));
after(() => postgres.stop());

for (const [index, installation] of installations.entries()) {
  describe(`Better Auth ${installation.version}, ${installation.adapter} adapter`, () => {
    let database, auth, server, page;
    const expiry = installation.adapter === "drizzle" ? "expires_at" : '"expiresAt"';
    const now = installation.adapter === "drizzle" ? "(now() at time zone 'utc')" : "now()";

    before(async () => {
      database = await postgres.database(`auth_${index}`);
      auth = await startBetterAuth(installation, database);
      // From the next connection on; the server's are all to come.
      await database.query(`alter database auth_${index} set timezone = 'America/New_York'`);
      server = await launch({
        WS_AUTH: "better-auth", BETTER_AUTH_SECRET: secret, BETTER_AUTH_URL: auth.baseURL, DATABASE_URL: database.url,
        WS_AUTH_RECHECK_MS: `${recheck_ms}`, WS_ADMIN_TOKEN: adminToken,
      });
      page = { origin: auth.baseURL };
    });
    after(async () => {
      if (process.env.SHOW_LOG) console.log(server.stdout, server.stderr);
      await server.remove();
      await auth.stop();
    });

    test("every way to show a session opens a document", async (t) => {
      const user = await auth.signUp();
      assert.equal(await knock(t, server, "/room", { cookie: user.cookie, ...page }), "open", "cookie");
      assert.equal(await knock(t, server, "/room", { authorization: `Bearer ${user.token}` }), "open", "raw bearer");
      assert.equal(await knock(t, server, "/room", { authorization: `bearer ${user.signed}` }), "open", "signed bearer, encoded");
      const decoded = decodeURIComponent(user.signed);
      assert.equal(await knock(t, server, "/room", { authorization: `Bearer ${decoded}` }), "open", "signed bearer, decoded");
      for (const name of ["token", "access_token", "session_token"]) {
        assert.equal(await knock(t, server, `/room?${name}=${user.token}`), "open", name);
      }
      assert.equal(await knock(t, server, `/room?token=${user.signed}`), "open", "signed in the query");
      assert.equal(await knock(t, server, "/room", { "x-session-token": user.token }), "open", "x-session-token");
      assert.equal(await knock(t, server, "/room", { "x-auth-token": user.token }), "open", "x-auth-token");
      assert.equal(await introduce(t, server, "room", user.token), "open", "Auth message");
      assert.equal(await introduce(t, server, "room", user.signed), "open", "Auth message, signed");
      assert.equal(await introduce(t, server, "room", "", { cookie: user.cookie, ...page }), "open", "empty Auth message and cookie");
    });

    test("provider 2.15 without a token, which sends none, gets in by its handshake", async (t) => {
      const user = await auth.signUp();
      const client = connect(t, "provider 2.15", { url: `${server.url}/?token=${user.token}` }, "tokenless", { token: null });
      await client.synced();
      const stranger = connect(t, "provider 2.15", server, "tokenless", { token: null });
      await eventually(() => stranger.verdicts.length > 0, "a verdict");
      assert.match(stranger.verdicts[0], /^failed/);
    });

    test("a JWT opens, a damaged one does not", async (t) => {
      const user = await auth.signUp();
      const token = await auth.jwt(user);
      assert.equal(await introduce(t, server, "room", token), "open");
      assert.equal(await knock(t, server, `/room?token=${token}`), "open");
      const [head, , signature] = token.split(".");
      const claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
      const forged = Buffer.from(JSON.stringify({ ...claims, role: "owner" })).toString("base64url");
      assert.equal(await introduce(t, server, "room", `${head}.${forged}.${signature}`), "denied");
    });

    test("whatever is wrong with a credential refuses, and leaves nothing behind", async (t) => {
      const user = await auth.signUp();
      const name = `refused-${index}`;
      assert.equal(await knock(t, server, `/${name}`), 4401, "nothing");
      assert.equal(await knock(t, server, `/${name}`, { cookie: tampered(user.cookie), ...page }), 4401, "tampered signature");
      assert.equal(await knock(t, server, `/${name}?token=${tampered(user.signed)}`), 4401, "tampered signature in the query");
      assert.equal(await knock(t, server, `/${name}?token=${user.token}x`), 4401, "unknown token");
      assert.equal(await knock(t, server, `/${name}`, { cookie: user.cookie, origin: "https://evil.example" }), 4403, "foreign origin");
      assert.equal(await knock(t, server, `/${name}`, { cookie: user.cookie }), 4403, "cookie without origin");
      assert.equal(await knock(t, server, "/..%2F..%2Fescape", { authorization: `Bearer ${user.token}` }), 4403, "name");
      assert.equal(await introduce(t, server, name, "wrong"), "denied");
      await database.query("delete from session where token = $1", [user.token]);
      assert.equal(await knock(t, server, `/${name}`, { cookie: user.cookie, ...page }), 4401, "deleted row");
      const rows = await database.query("select 1 from yjs_document where id = $1", [name]);
      assert.deepEqual(rows, []);
    });

    test("an expired session is expired in any time zone", async (t) => {
      const user = await auth.signUp();
      const headers = { authorization: `Bearer ${user.token}` };
      await database.query(`update session set ${expiry} = ${now} + interval '30 minutes' where token = $1`, [user.token]);
      assert.equal(await knock(t, server, "/room", headers), "open");
      await database.query(`update session set ${expiry} = ${now} - interval '1 minute' where token = $1`, [user.token]);
      assert.equal(await knock(t, server, "/room", headers), 4401);
    });

    test("bans and roles count", async (t) => {
      const user = await auth.signUp();
      const headers = { authorization: `Bearer ${user.token}` };
      await database.query(`update "user" set role = 'viewer' where id = $1`, [user.id]);
      const reader = connect(t, "provider 4.8", server, "room", { token: user.token });
      await eventually(() => reader.verdicts.length > 0, "a verdict");
      assert.deepEqual(reader.verdicts, ["readonly"]);
      await database.query(`update "user" set role = 'stranger' where id = $1`, [user.id]);
      assert.equal(await knock(t, server, "/room", headers), 4403, "unknown role");
      await database.query(`update "user" set role = null where id = $1`, [user.id]);
      assert.equal(await knock(t, server, "/room", headers), "open", "no role");
      await database.query(`update "user" set banned = true where id = $1`, [user.id]);
      assert.equal(await knock(t, server, "/room", headers), 4403, "banned");
    });

    test("sign-out, ban and expiry end open sessions in time", async (t) => {
      const ends = {
        "sign-out": (user) => auth.signOut(user),
        ban: (user) => database.query(`update "user" set banned = true where id = $1`, [user.id]),
        expiry: (user) => database.query(`update session set ${expiry} = ${now} where token = $1`, [user.token]),
      };
      for (const [what, end] of Object.entries(ends)) {
        const user = await auth.signUp();
        const raw = await openRaw(t, server, `/live?token=${user.token}`);
        raw.send(hello.plainStep1);
        const client = connect(t, "provider 4.8", server, "live", { token: user.token });
        await client.synced();
        await stays(() => !raw.isClosed && client.closes.length === 0, "both stay");
        await end(user);
        await eventually(() => raw.isClosed && client.closes.length > 0, `the end after ${what}`, revoked_ms);
        assert.equal((await raw.closed).code, what === "ban" ? 4403 : 4401, what);
      }
    });

    test("a changed role changes an open session, and a longer session goes on", async (t) => {
      const [user, other] = [await auth.signUp(), await auth.signUp()];
      const client = connect(t, "provider 4.8", server, "roles", { token: user.token });
      const witness = connect(t, "provider 4.8", server, "roles", { token: other.token });
      await Promise.all([client.synced(), witness.synced()]);
      assert.deepEqual(client.verdicts, ["read-write"]);
      await database.query(`update "user" set role = 'viewer' where id = $1`, [user.id]);
      await eventually(() => client.verdicts.at(-1) === "readonly", "the client is told", revoked_ms);
      client.text.insert(0, "refused");
      await stays(() => witness.text.toString() === "", "its edits reach nobody");
      await database.query(`update "user" set role = 'editor' where id = $1`, [user.id]);
      await eventually(() => client.verdicts.at(-1) === "read-write", "and told again", revoked_ms);
      assert.deepEqual(client.closes, []);
      // Better Auth extends sessions; what was read first must not be the end.
      await database.query(`update session set ${expiry} = ${now} + interval '2 seconds' where token = $1`, [other.token]);
      await stays(() => witness.closes.length === 0, "it was read", recheck_ms + 200);
      await database.query(`update session set ${expiry} = ${now} + interval '1 hour' where token = $1`, [other.token]);
      await stays(() => witness.closes.length === 0, "it goes on", 3000);
    });

    test("the operator sees, disconnects and judges again", async (t) => {
      const user = await auth.signUp();
      const call = async (method, path, token = adminToken) => {
        const response = await fetch(`http://127.0.0.1:${server.healthPort}/admin/${path}`, { method, headers: { authorization: `Bearer ${token}` } });
        return { status: response.status, ...(await response.json()) };
      };
      const open = async () => {
        const raw = await openRaw(t, server, `/admin-${index}?token=${user.token}`);
        raw.send(hello.plainStep1);
        await eventually(() => raw.frames.length > 0, "it is open");
        return raw;
      };
      assert.equal((await call("GET", "sessions", "wrong")).status, 401);
      const first = await open();
      const { sessions } = await call("GET", `users/${user.id}/sessions`);
      assert.deepEqual(sessions.map(({ documentName, userId, readOnly }) => ({ documentName, userId, readOnly })), [
        { documentName: `admin-${index}`, userId: user.id, readOnly: false },
      ]);
      assert.deepEqual(await call("POST", `users/${user.id}/revalidate`), { status: 200, sessions: 1 });
      assert.equal(first.isClosed, false);
      assert.deepEqual(await call("POST", `users/${user.id}/disconnect`), { status: 200, sessions: 1 });
      assert.equal((await first.closed).code, 4401);
      const second = await open();
      const [{ sessionId }] = (await call("GET", `users/${user.id}/sessions`)).sessions;
      await call("POST", `sessions/${sessionId}/disconnect`);
      assert.equal((await second.closed).code, 4401);
      const third = await open();
      assert.ok((await call("GET", "documents")).documents.includes(`admin-${index}`));
      await call("POST", `documents/admin-${index}/disconnect`);
      assert.equal((await third.closed).code, 4205);
    });

    test("connections that the database has ended cost nobody a login", async (t) => {
      const user = await auth.signUp();
      const headers = { authorization: `Bearer ${user.token}` };
      await Promise.all(Array.from({ length: 20 }, () => knock(t, server, "/room", headers)));
      const ended = await database.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'fidibus-auth' and datname = current_database()");
      assert.ok(ended.length > 0);
      assert.equal(await knock(t, server, "/room", headers), "open");
    });

    test("with triggers the database tells at once", async (t) => {
      const listening = await launch({
        WS_AUTH: "better-auth", BETTER_AUTH_SECRET: secret, BETTER_AUTH_URL: auth.baseURL, DATABASE_URL: "memory:",
        WS_AUTH_DATABASE_URL: database.url, WS_AUTH_RECHECK_MS: "600000", WS_AUTH_LISTEN: "install",
      });
      try {
        const user = await auth.signUp();
        await eventually(async () => (await database.query("select 1 from pg_trigger where tgname = 'fidibus_auth_user'")).length, "the trigger");
        const client = connect(t, "provider 4.8", listening, "told", { token: user.token });
        await client.synced();
        // Listening starts beside serving.
        await eventually(async () => (await database.query("select 1 from pg_stat_activity where query ilike 'listen%'")).length, "it listens");
        await database.query(`update "user" set role = 'viewer' where id = $1`, [user.id]);
        await eventually(() => client.verdicts.at(-1) === "readonly", "the client is told", 5000);
        await auth.signOut(user);
        await eventually(() => client.closes.length > 0, "the session ends", 5000);
        client.destroy();
      } finally {
        await listening.remove();
      }
    });

    test("the log names the refused, and never what they showed", async (t) => {
      const user = await auth.signUp();
      await knock(t, server, `/room?token=${tampered(user.signed)}`);
      await knock(t, server, "/room", { cookie: tampered(user.cookie), ...page });
      const log = server.stdout + server.stderr;
      assert.match(log, /WebSocket authentication failed/);
      for (const showed of [user.token, "session_token=", "token=", secret]) assert.ok(!log.includes(showed), showed);
    });
  });
}
