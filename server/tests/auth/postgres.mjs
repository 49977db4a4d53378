// A PostgreSQL of its own, from the programs that the machine has: a temporary directory, a free port, gone with the tests.
import { spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";

const programs = readdirSync("/usr/lib/postgresql")
  .sort((a, b) => b - a)
  .map((version) => join("/usr/lib/postgresql", version, "bin"))
  .find((bin) => existsSync(join(bin, "initdb")));

// It refuses to run as root, which tests in a container often are.
function account() {
  if (process.getuid() !== 0) return {};
  const line = (name) => readFileSync("/etc/passwd", "utf8").split("\n").find((entry) => entry.startsWith(`${name}:`));
  const [, , uid, gid] = (line("postgres") ?? line("nobody")).split(":").map(Number);
  return { uid, gid };
}

const freePort = () =>
  new Promise((done) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });

/** Starts it; `stop()` ends it and removes its files. */
export async function startPostgres() {
  const { uid, gid } = account();
  const directory = mkdtempSync(join(tmpdir(), "fidibus-auth-postgres-"));
  if (uid !== undefined) chownSync(directory, uid, gid);
  const data = join(directory, "data");
  const run = (program, ...args) => {
    const done = spawnSync(join(programs, program), args, { uid, gid, cwd: directory, encoding: "utf8" });
    if (done.status !== 0) throw new Error(`${program}: ${done.stderr}${done.stdout}${done.error ?? ""}`);
  };
  run("initdb", "-D", data, "--auth=trust", "--username=fidibus", "--encoding=UTF8", "--no-locale", "--no-sync");
  const port = await freePort();
  const options = ["-D", data, "-p", `${port}`, "-k", directory, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"];
  const server = spawn(join(programs, "postgres"), options, { uid, gid, cwd: directory, stdio: "ignore" });
  const kill = () => server.exitCode === null && server.kill("SIGKILL");
  process.once("exit", kill);
  const url = (database) => `postgres://fidibus@127.0.0.1:${port}/${database}`;
  const admin = await connected(url("postgres"), server);
  const pools = [];
  return {
    /** Makes a database: `{ url, query(sql, values) }`. */
    async database(name) {
      await admin.query(`create database ${name}`);
      const pool = new pg.Pool({ connectionString: url(name), max: 5 });
      pool.on("error", () => {});
      pools.push(pool);
      return { url: url(name), pool, query: async (...args) => (await pool.query(...args)).rows };
    },
    async stop() {
      await Promise.all(pools.map((pool) => pool.end()));
      await admin.end();
      const ended = new Promise((done) => server.once("exit", done));
      server.kill("SIGQUIT");
      await ended;
      process.removeListener("exit", kill);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function connected(connectionString, server) {
  for (let tries = 0; ; tries++) {
    const client = new pg.Client({ connectionString });
    client.on("error", () => {});
    try {
      await client.connect();
      return client;
    } catch (error) {
      if (tries > 200 || server.exitCode !== null) throw error;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}
