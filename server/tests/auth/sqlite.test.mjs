// Better Auth on SQLite: the server reads the sessions from its file while Better Auth writes them.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { secret, startBetterAuth, versionNames } from "./better-auth.mjs";
import { introduce, knock } from "./knock.mjs";
import { connect } from "../provider/clients.mjs";
import { eventually } from "../provider/convergence.mjs";
import { atEnd, startServer } from "../provider/server.mjs";

describe("SQLite", () => {
  for (const version of versionNames) {
    test(`sessions, JWTs, roles and ends: Better Auth ${version}`, async (t) => {
      const directory = await mkdtemp(join(tmpdir(), "fidibus-auth-sqlite-"));
      atEnd(t, () => rm(directory, { recursive: true, force: true }));
      const path = join(directory, "app.sqlite");
      const file = new DatabaseSync(path);
      file.exec("pragma journal_mode = wal");
      atEnd(t, () => file.close());
      const auth = await startBetterAuth({ version, adapter: "built-in" }, { pool: file });
      atEnd(t, () => auth.stop());
      const server = await startServer(t, {
        WS_AUTH: "better-auth", BETTER_AUTH_SECRET: secret, BETTER_AUTH_URL: auth.baseURL, DATABASE_URL: "memory:",
        WS_AUTH_DATABASE_URL: `sqlite:${path}`, WS_AUTH_RECHECK_MS: "1000",
      });
      const user = await auth.signUp();
      assert.equal(await knock(t, server, "/room", { cookie: user.cookie, origin: auth.baseURL }), "open", "cookie");
      assert.equal(await knock(t, server, `/room?token=${user.token}`), "open", "query");
      assert.equal(await introduce(t, server, "room", await auth.jwt(user)), "open", "JWT");
      assert.equal(await knock(t, server, `/room?token=${user.token}x`), 4401, "unknown token");
      const client = connect(t, "provider 4.8", server, "room", { token: user.token });
      await client.synced();
      file.prepare(`update "user" set role = 'viewer' where id = ?`).run(user.id);
      await eventually(() => client.verdicts.at(-1) === "readonly", "a changed role shows");
      await auth.signOut(user);
      await eventually(() => client.closes.length > 0, "a sign-out ends the session");

      const late = await auth.signUp();
      const expire = (time) => file.prepare("update session set expiresAt = ? where token = ?").run(time.toISOString(), late.token);
      expire(new Date(Date.now() + 60_000));
      assert.equal(await knock(t, server, `/room?token=${late.token}`), "open");
      expire(new Date(Date.now() - 1000));
      assert.equal(await knock(t, server, `/room?token=${late.token}`), 4401, "expired");
    });
  }
});
