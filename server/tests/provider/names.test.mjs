// Names: both dialects mean the same document by one name, whether it comes in a frame or in the URL, and under a base path.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect } from "./clients.mjs";
import { eventually, stays } from "./convergence.mjs";
import { startServer, stockFails } from "./server.mjs";

const mixing = stockFails("its two servers share no document");

// What deployments use, and what URLs make hard.
const names = ["diagram-123", "team_room.alpha-1", "with a space", "Grüße 👋", "a/b/c", "100%", "50%25 off", "question", "plus+plus", "Case", "case"];

describe("names", { concurrency: 3 }, () => {
  test("a name in a frame and the same name in a path are one document", mixing, async (t) => {
    const server = await startServer(t);
    for (const name of names) {
      const a = connect(t, "provider 4.8", server, name);
      // The browser encodes what a URL cannot hold; a lone "%" it leaves.
      const b = connect(t, "y-websocket 3.1", server, name.includes("%25") ? encodeURIComponent(name) : name);
      a.text.insert(0, name);
      await eventually(() => b.text.toString() === name, () => `${name} is one document`);
    }
  });

  test("each name is a document of its own", async (t) => {
    const server = await startServer(t);
    const clients = names.map((name) => connect(t, "provider 4.8", server, name));
    for (const client of clients) client.text.insert(0, client.name);
    await Promise.all(clients.map((client) => client.saved()));
    await stays(() => clients.every((client) => client.text.toString() === client.name), "nothing leaks", 200);
  });

  test("under a base path both dialects find their documents", mixing, async (t) => {
    const server = await startServer(t, { WS_BASE_PATH: "/ws" });
    const based = { url: `${server.url}/ws` };
    const a = connect(t, "provider 4.8", based, "diagram-1");
    const b = connect(t, "y-websocket 2.1", based, "diagram-1");
    a.text.insert(0, "based");
    await eventually(() => b.text.toString() === "based", "one document");
  });

  test("a long name works, an endless one is refused with a reason", async (t) => {
    const server = await startServer(t);
    const client = connect(t, "provider 4.8", server, "n".repeat(128));
    client.text.insert(0, "x");
    await client.saved();
    assert.deepEqual(client.closes, []);
  });
});
