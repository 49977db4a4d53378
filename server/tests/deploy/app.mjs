// The directory of an app on a server: the binary, the PM2 configuration, .env, logs; on free ports, with a PM2 daemon of
// its own. Everything goes when the test is over.
import { execFile, spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
export const here = dirname(fileURLToPath(import.meta.url));
export const examples = resolve(here, "../../../examples/deploy");
const binary = resolve(here, process.env.FIDIBUS_BIN ?? "../../../target/debug/fidibus");
const path = `${dirname(process.execPath)}:${process.env.PATH}`;
const command_wait_ms = 60_000;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until `condition` answers something true, and answers that. */
export async function until(what, condition, wait_ms = 20_000) {
  const end = Date.now() + wait_ms;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`${what} did not happen within ${wait_ms} ms`);
    await sleep(50);
  }
}

const isFree = (port) =>
  new Promise((done) => {
    const probe = createServer();
    probe.once("error", () => done(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => done(true)));
  });

/** A port that is free, as is the one after it; below the ephemeral range. */
export async function freePorts() {
  for (let tries = 0; tries < 100; tries++) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
  throw new Error("no free ports among 100 random ones");
}

/** Fetches the health document: `{ status, body }`, or null where nobody answers. */
export async function health(url) {
  try {
    const answer = await fetch(url);
    return { status: answer.status, body: await answer.json() };
  } catch {
    return null;
  }
}

export class App {
  /** Makes the directory, with a PM2 configuration (a text) whose ports are replaced by free ones. */
  static async make(t, ecosystem, settings = {}) {
    const app = new App();
    app.directory = await mkdtemp(join(tmpdir(), "fidibus-app-"));
    app.port = await freePorts();
    app.healthUrl = `http://127.0.0.1:${app.port + 1}/health`;
    app.url = `ws://127.0.0.1:${app.port}/ws`;
    t.after(() => app.remove());
    for (const name of ["bin", "config", "server", "logs"]) await mkdir(join(app.directory, name));
    await symlink(binary, join(app.directory, "bin/fidibus"));
    // As `npm install` in the app would have it, for --import tsx.
    await symlink(join(here, "node_modules"), join(app.directory, "node_modules"));
    await cp(join(examples, "websocket-server.ts"), join(app.directory, "server/websocket-server.ts"));
    await writeFile(join(app.directory, "config/ecosystem.config.cjs"), ecosystem.replaceAll("3001", `${app.port}`));
    const environment = {
      DATABASE_URL: "sqlite:state/documents.db", WS_STATE_DIR: "state", WS_AUTH: "none", WS_HOST: "127.0.0.1", ...settings,
    };
    const lines = Object.entries(environment).map(([name, value]) => `${name}="${value}"\n`);
    await writeFile(join(app.directory, ".env"), lines.join(""), { mode: 0o600 });
    return app;
  }

  /** Runs a PM2 command in the directory; what it printed. */
  async pm2(...parameters) {
    // Nothing of the developer's own environment may reach the server.
    const { HOME, TMPDIR } = process.env;
    const environment = { PATH: path, HOME, ...(TMPDIR && { TMPDIR }), PM2_HOME: join(this.directory, ".pm2"), NO_COLOR: "1" };
    const options = { cwd: this.directory, env: environment, timeout: command_wait_ms };
    const { stdout } = await run(process.execPath, [join(here, "node_modules/pm2/bin/pm2"), ...parameters], options);
    return stdout;
  }

  /** What PM2 knows of the app's processes. */
  async processes() {
    const list = JSON.parse((await this.pm2("jlist")).split("\n").findLast((line) => line.startsWith("[")));
    return list.map(({ name, pid, pm2_env }) => ({
      name, pid, status: pm2_env.status, mode: pm2_env.exec_mode, restarts: pm2_env.restart_time,
    }));
  }

  log(name) {
    return readFile(join(this.directory, "logs", name), "utf8").catch(() => "");
  }

  async remove() {
    await this.pm2("kill").catch(() => {});
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Runs a shell script; `{ code, stdout, stderr }`. */
export async function script(file, environment) {
  const options = { env: { PATH: path, ...environment }, timeout: command_wait_ms };
  try {
    return { code: 0, ...(await run("bash", [file], options)) };
  } catch ({ code, stdout, stderr }) {
    return { code, stdout, stderr };
  }
}

/** nginx in a directory of its own with this text in its http block; ends with the test. */
export async function nginx(t, http) {
  const directory = await mkdtemp(join(tmpdir(), "fidibus-nginx-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const certificate = ["-keyout", join(directory, "key.pem"), "-out", join(directory, "certificate.pem")];
  await run("openssl", [
    "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=draw.nulled.ai", ...certificate,
  ]);
  const text = http
    .replaceAll(/\bCERTIFICATE\b|\/etc\/letsencrypt\S+fullchain\.pem/g, join(directory, "certificate.pem"))
    .replaceAll(/\bKEY\b|\/etc\/letsencrypt\S+privkey\.pem/g, join(directory, "key.pem"));
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${directory}/${name};`);
  const user = process.getuid() === 0 ? "user root;" : "";
  await writeFile(
    join(directory, "nginx.conf"),
    `${user} daemon off; pid ${directory}/pid; error_log stderr warn; worker_processes 1;
     events { worker_connections 1024; }
     http { access_log off; ${temporary.join(" ")}\n${text}\n}\n`,
  );
  const child = spawn("nginx", ["-p", directory, "-c", join(directory, "nginx.conf")], { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (chunk) => (errors += chunk));
  const ended = new Promise((done) => child.once("exit", done));
  t.after(async () => {
    child.kill("SIGTERM");
    await ended;
  });
  return { directory, errors: () => errors };
}
