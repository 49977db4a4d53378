// Starts and stops the server under test: the real binary, or with TARGET=stock the stock servers in one process (stock.mjs).
// Each server has free ports and a state directory of its own, which outlives a kill, so that a test can start it again.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

/** "fidibus" or "stock". */
export const target = process.env.TARGET ?? "fidibus";

/** Options for a test that stock Hocuspocus or y-websocket fails; `why` says at what. STOCK_FAILS=run shows it. */
export const stockFails = (why) => ({
  skip: target === "stock" && process.env.STOCK_FAILS !== "run" ? `stock fails: ${why}` : false,
});

const start_wait_ms = 20_000;
const stop_wait_ms = 15_000;
const output_bytes_max = 1 << 20;

/** Tokens of the servers that check them: ann writes, rea reads. */
export const tokens = { write: "token-of-ann", read: "token-of-rea" };
export const staticAuth = { WS_AUTH: "static", WS_STATIC_TOKENS: `${tokens.write}=ann:rw,${tokens.read}=rea:ro` };

const isFree = (port) =>
  new Promise((done) => {
    const probe = createServer();
    probe.once("error", () => done(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => done(true)));
  });

// Below the ephemeral range, so that no client's own socket takes the port between the probe and the server's start.
async function freePort() {
  for (let tries = 0; tries < 100; tries++) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    if (await isFree(port)) return port;
  }
  throw new Error("no free port among 100 random ones");
}

/** Waits for `promise`, for at most `ms`. */
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const endings = new WeakMap();

/** Runs `end` when the test `t` is over, the last one registered first: clients go before their server. */
export function atEnd(t, end) {
  if (!endings.has(t)) {
    const stack = [];
    endings.set(t, stack);
    t.after(async () => {
      while (stack.length > 0) await stack.pop()();
    });
  }
  endings.get(t).push(end);
}

// A test run that is cut short must not leave servers behind.
const alive = new Set();
process.on("exit", () => alive.forEach((child) => child.kill("SIGKILL")));

class Server {
  constructor(port, healthPort, stateDirectory, environment) {
    this.port = port;
    this.healthPort = healthPort;
    this.stateDirectory = stateDirectory;
    this.environment = environment;
    this.url = `ws://127.0.0.1:${port}`;
    this.stdout = "";
    this.stderr = "";
  }

  /** Starts the process and waits until it listens. Also after a kill: port and stored documents stay. */
  async start() {
    const [command, ...args] =
      target === "stock"
        ? [process.execPath, "--disable-warning=ExperimentalWarning", join(here, "stock.mjs")]
        : [resolve(here, process.env.FIDIBUS_BIN ?? "../../../target/debug/fidibus")];
    const { PATH, HOME, TMPDIR, RUST_BACKTRACE } = process.env;
    this.stopped = false;
    this.process = spawn(command, args, {
      // Nothing of the developer's own environment or `.env` may reach the server.
      cwd: this.stateDirectory,
      env: {
        PATH, HOME, ...(TMPDIR && { TMPDIR }), ...(RUST_BACKTRACE && { RUST_BACKTRACE }),
        WS_PORT: `${this.port}`,
        WS_HOST: "127.0.0.1",
        WS_HEALTH_PORT: `${this.healthPort}`,
        WS_STATE_DIR: this.stateDirectory,
        WS_AUTH: "none",
        ...this.environment,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { process: child } = this;
    alive.add(child);
    this.exited = new Promise((done) =>
      child.once("exit", (code, signal) => {
        alive.delete(child);
        done({ code, signal });
      }),
    );
    const listening = new Promise((done, reject) => {
      child.once("error", reject);
      this.exited.then(({ code, signal }) =>
        reject(new Error(`the server ended at its start (${code ?? signal}):\n${this.stdout}${this.stderr}`)),
      );
      let seen = "";
      child.stdout.on("data", (chunk) => {
        this.stdout = (this.stdout + chunk).slice(-output_bytes_max);
        if (seen !== null && (seen += chunk).includes("WebSocket server listening")) {
          seen = null;
          done();
        }
      });
      child.stderr.on("data", (chunk) => {
        this.stderr = (this.stderr + chunk).slice(-output_bytes_max);
      });
    });
    await within(start_wait_ms, "the line 'WebSocket server listening'", listening);
    return this;
  }

  /** Sends the signal and waits for the end: `{ code, signal }`. */
  kill(signal) {
    this.stopped = true;
    this.process.kill(signal);
    return within(stop_wait_ms, `the server's end after ${signal}`, this.exited);
  }

  running() {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  async remove() {
    if (this.process && this.running()) await this.kill("SIGKILL");
    await rm(this.stateDirectory, { recursive: true, force: true });
  }
}

/** A running server; whoever asks for it removes it. */
export async function launch(environment = {}) {
  const stateDirectory = await mkdtemp(join(tmpdir(), "fidibus-test-"));
  const server = new Server(await freePort(), await freePort(), stateDirectory, environment);
  try {
    return await server.start();
  } catch (error) {
    await server.remove();
    throw error;
  }
}

/** A running server for the test `t`, removed with its files when the test ends; it fails the test by dying. */
export async function startServer(t, environment = {}) {
  const server = await launch(environment);
  atEnd(t, async () => {
    const died = !server.running() && !server.stopped;
    await server.remove();
    if (process.env.SHOW_LOG) console.log(server.stdout, server.stderr);
    if (died) throw new Error(`the server died during the test:\n${server.stdout}${server.stderr}`);
  });
  return server;
}
