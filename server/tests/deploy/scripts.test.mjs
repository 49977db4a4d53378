// Goal: the health check for cron restarts a server that is gone, and leaves one alone whose database is. Method: the
// script itself against a server of each kind.
import assert from "node:assert/strict";
import { access, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { examples, freePorts, script } from "./app.mjs";

test("the health check restarts only where nobody answers", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "fidibus-health-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const mark = join(directory, "restarted");
  const restarted = () => access(mark).then(() => true, () => false);
  const port = await freePorts();
  const environment = { HEALTH_URL: `http://127.0.0.1:${port}/health`, RESTART_COMMAND: `touch ${mark}`, RETRY_SECONDS: "0" };
  let status = 200;
  const server = createServer((_, answer) => answer.writeHead(status).end('{"status":"unhealthy"}'));
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  const check = () => script(join(examples, "healthcheck.sh"), environment);
  assert.deepEqual(await check(), { code: 0, stdout: "", stderr: "" });
  status = 503;
  const away = await check();
  assert.equal(away.code, 1);
  assert.match(away.stdout, /unhealthy, HTTP 503: \{"status":"unhealthy"\}/);
  assert.equal(await restarted(), false, "the database is away: a restart would not bring it back");
  await new Promise((done) => {
    server.close(done);
    server.closeAllConnections();
  });
  const gone = await check();
  assert.equal(gone.code, 2);
  assert.match(gone.stdout, /no answer from .* after 3 tries, restarting/);
  assert.equal(await restarted(), true);
});
