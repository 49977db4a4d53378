// Goal: the deployment guide's step 5 works with a native binary: start, status, logs, health, reload, stop; with the
// shipped PM2 configuration, and with the guide's own one word for word. Method: real PM2 7, real providers.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { App, examples, health, here, sleep, until } from "./app.mjs";
import { browser, hocuspocus } from "./clients.mjs";

const shipped = await readFile(join(examples, "ecosystem.config.cjs"), "utf8");
const seed = await readFile(join(here, "seed-ecosystem.config.cjs"), "utf8");
// `time: true`, as the guide has it beside a format of its own, wins over that.
const stamp = String.raw`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?: \+\d\d:?\d\d)?: `;

for (const [whose, ecosystem] of [["the shipped", shipped], ["the guide's", seed]]) {
  test(`${whose} configuration: start, logs, health, reload, stop`, async (t) => {
    const app = await App.make(t, ecosystem);
    await app.pm2("start", "config/ecosystem.config.cjs", "--env", "production");
    const [started] = await app.processes();
    assert.deepEqual(
      { ...started, pid: 0 },
      { name: "canvas-ws", pid: 0, status: "online", mode: "fork_mode", restarts: 0 },
    );
    const { body } = await until("the health check", () => health(app.healthUrl));
    assert.equal(body.status, "healthy");
    const lines = new RegExp(
      String.raw`^${stamp}\[INFO\] Hocuspocus server started\n${stamp}\[INFO\] WebSocket server listening {"port": ${app.port}}\n`,
      "m",
    );
    await until("the guide's log lines", async () => lines.test(await app.log("ws-out.log")));
    assert.equal(await app.log("ws-error.log"), "", "nothing on stderr when all is well");

    const [tab, editor] = [browser(t, app.url, "diagram-1"), hocuspocus(t, app.url, "diagram-1")];
    await Promise.all([tab.synced(), editor.synced()]);
    editor.write("before ");
    await editor.saved();
    await tab.sees("before ");

    const since = Date.now();
    await app.pm2("reload", "canvas-ws");
    await until("the server's return", () => health(app.healthUrl));
    t.diagnostic(`reload to health: ${Date.now() - since} ms, PM2's own command line included`);
    assert.ok(Date.now() - since < 10_000, "a reload is short");
    editor.write("after");
    await editor.saved();
    await Promise.all([tab.sees("before after"), editor.sees("before after")]);
    const [reloaded] = await app.processes();
    assert.deepEqual([reloaded.status, reloaded.restarts], ["online", 1]);
    assert.match(await app.log("ws-out.log"), /Shutting down WebSocket server \{"signal": "SIGINT"\}[^]*WebSocket shutdown complete/);

    await app.pm2("stop", "canvas-ws");
    assert.equal(await health(app.healthUrl), null, "it is gone, and no child of it is left");
    await app.pm2("start", "canvas-ws");
    const late = browser(t, app.url, "diagram-1");
    await late.sees("before after");
    assert.equal(await app.log("ws-error.log"), "");
  });
}

test("whoever types through a reload loses nothing", async (t) => {
  const app = await App.make(t, shipped);
  await app.pm2("start", "config/ecosystem.config.cjs", "--env", "production");
  const writers = [browser(t, app.url, "diagram-1"), hocuspocus(t, app.url, "diagram-1")];
  await Promise.all(writers.map((writer) => writer.synced()));
  let typing = true;
  const typed = writers.map(async (writer, index) => {
    let count = 0;
    for (; typing; count++) {
      writer.write("ab"[index]);
      await sleep(20);
    }
    return count;
  });
  const gaps = watchGap(app);
  for (let round = 0; round < 2; round++) {
    await app.pm2("reload", "canvas-ws");
    await sleep(1500);
  }
  typing = false;
  const [tab, editor] = await Promise.all(typed);
  t.diagnostic(`typed ${tab + editor} letters, longest time without health ${await gaps()} ms`);
  const reader = browser(t, app.url, "diagram-1");
  const counts = (text) => [...text].reduce((sum, c) => ((sum[c] += 1), sum), { a: 0, b: 0 });
  await until("all letters", () => [...writers, reader].every(({ text }) => text.length === tab + editor));
  assert.deepEqual(counts(reader.text), { a: tab, b: editor });
});

/** Asks for health all the time; the function that it answers ends that, with the longest time without. */
function watchGap(app) {
  let [watching, longest, since] = [true, 0, Date.now()];
  const watch = (async () => {
    while (watching) {
      if (await health(app.healthUrl)) {
        longest = Math.max(longest, Date.now() - since);
        since = Date.now();
      }
      await sleep(10);
    }
  })();
  return async () => {
    watching = false;
    await watch;
    return longest;
  };
}

test("a second instance does not start, and says why", async (t) => {
  const app = await App.make(t, shipped.replace("instances: 1", "instances: 2"));
  await app.pm2("start", "config/ecosystem.config.cjs", "--env", "production").catch(() => {});
  await until("the refusal", async () => (await app.log("ws-error.log")).includes("NODE_APP_INSTANCE is 1: PM2 starts several instances"));
  assert.equal((await health(app.healthUrl)).body.status, "healthy", "the first one serves");
  const tab = browser(t, app.url, "diagram-1");
  await tab.synced();
});
