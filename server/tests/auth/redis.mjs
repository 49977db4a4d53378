// A Redis of its own for tests: a temporary directory, a free port, every write on disk, so that it can be stopped and come back.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";

export const password = "the-password-of-redis";

const freePort = () =>
  new Promise((done) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });

/** Starts it; `client` is one of ioredis, `down()` and `up()` stop it and bring it back with its data, `stop()` ends it. */
export async function startRedis() {
  const directory = mkdtempSync(join(tmpdir(), "fidibus-auth-redis-"));
  const port = await freePort();
  const options = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", directory, "--requirepass", password];
  const durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
  let server;
  const kill = () => server?.exitCode === null && server.kill("SIGKILL");
  process.once("exit", kill);
  const client = new Redis({ port, password, lazyConnect: true, retryStrategy: () => 50 });
  client.on("error", () => {});
  const up = async () => {
    server = spawn("redis-server", [...options, ...durable], { stdio: "ignore" });
    // The client waits until it is connected.
    if (client.status === "wait") await client.connect().catch(() => {});
    await client.ping();
  };
  const down = async () => {
    const ended = new Promise((done) => server.once("exit", done));
    server.kill("SIGKILL");
    await ended;
  };
  await up();
  return {
    client, up, down,
    url: `redis://:${password}@127.0.0.1:${port}/0`,
    /** Stops answering, as a machine does that is out of memory, and goes on. */
    pause: () => server.kill("SIGSTOP"),
    resume: () => server.kill("SIGCONT"),
    async stop() {
      client.disconnect();
      await down();
      process.removeListener("exit", kill);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
