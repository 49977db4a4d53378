// Goal: clients reach the server through nginx, with the guide's configuration word for word and with the shipped one,
// many at once too. Method: real nginx with TLS, real providers.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { App, examples, freePorts, here, nginx, until } from "./app.mjs";
import { browser, hocuspocus } from "./clients.mjs";

// Of the tests' own nginx: its certificate is self-signed.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
process.removeAllListeners("warning");

const example = (name) => readFile(join(examples, "nginx", name), "utf8");
const locations = await example("fidibus-locations.conf");
const configurations = {
  "the guide's": await readFile(join(here, "seed-nginx.conf"), "utf8"),
  "the shipped": `${await example("fidibus-http.conf")}${(await example("site.conf"))
    .replace("include /etc/nginx/snippets/fidibus-locations.conf;", locations)
    .replace(/listen \[::\]:443.*\n/, "")}`,
};
const ecosystem = await readFile(join(examples, "ecosystem.config.cjs"), "utf8");

for (const [whose, text] of Object.entries(configurations)) {
  test(`${whose} configuration of nginx`, async (t) => {
    const app = await App.make(t, ecosystem);
    await app.pm2("start", "config/ecosystem.config.cjs", "--env", "production");
    const port = await freePorts();
    const http = text
      .replaceAll("listen 443", `listen 127.0.0.1:${port}`)
      .replaceAll(/:3001\b/g, `:${app.port}`)
      .replaceAll(/:3002\b/g, `:${app.port + 1}`);
    const proxy = await nginx(t, http);
    let refusal;
    const ask = () => fetch(`https://127.0.0.1:${port}/ws-health`).catch((error) => void (refusal = error));
    const answer = await until("nginx", ask).catch((error) => {
      throw new Error(`${error.message}: port ${port}, ${refusal?.cause ?? refusal}; ${proxy.errors() || "it said nothing"}`);
    });
    assert.equal(answer.status, 200, proxy.errors());
    assert.equal(answer.headers.get("content-type"), "application/json");
    assert.equal((await answer.json()).status, "healthy");

    const url = `wss://127.0.0.1:${port}/ws`;
    const [tab, editor] = [browser(t, url, "diagram-1"), hocuspocus(t, url, "diagram-1")];
    await Promise.all([tab.synced(), editor.synced()]);
    editor.write("through nginx");
    await editor.saved();
    await tab.sees("through nginx");

    // More than the limit on handshakes lets in at once: those that are turned away come back.
    const crowd = Array.from({ length: 40 }, (_, index) => (index % 2 ? browser : hocuspocus)(t, url, "diagram-1"));
    await until("all to be in", () => crowd.every(({ text }) => text === "through nginx"), 60_000);
  });
}
