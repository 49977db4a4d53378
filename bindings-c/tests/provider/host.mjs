// Starts one of the example hosts. HOSTS names them: "C=/path/to/host,C++=/path/to/host".
import { spawn } from "node:child_process";
import { once } from "node:events";
import { atEnd, within } from "../../../server/tests/provider/server.mjs";

const start_wait_ms = 20_000;
const stop_wait_ms = 20_000;

export const hosts = (process.env.HOSTS ?? "")
  .split(",")
  .filter(Boolean)
  .map((entry) => {
    const [name, path] = entry.split("=");
    return { name, path };
  });

if (hosts.length === 0) throw new Error("HOSTS names no host; run bindings-c/test.sh");

/** A running host with its `url`; it ends with the test, and then has to end well. */
export async function startHost(t, path, ...options) {
  const child = spawn(path, ["--port", "0", ...options], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stderr.on("data", (text) => (output += text));
  const listening = new Promise((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
      const port = /listening on 127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      if (port) resolve(Number(port));
    });
    child.once("exit", (code, signal) => reject(new Error(`the host ended with ${code ?? signal}: ${output}`)));
  });
  const port = await within(start_wait_ms, "the start of the host", listening);
  const host = {
    url: `ws://127.0.0.1:${port}`,
    /** Ends it as an operator does; its exit code. */
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      const [code, signal] = await within(stop_wait_ms, "the end of the host", exited);
      if (code !== 0) throw new Error(`the host ended with ${code ?? signal}: ${output}`);
      return code;
    },
  };
  atEnd(t, () => host.stop());
  return host;
}
