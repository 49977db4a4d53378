// Bytes that no provider sends: they cost their own connection, with a code and a reason, and nobody else anything.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect as connectTcp } from "node:net";
import * as Y from "yjs";
import { connect } from "./clients.mjs";
import { eventually } from "./convergence.mjs";
import { closedForAReason, emptyUpdate, frame, hello, openRaw, refusedForAReason, wire } from "./raw.mjs";
import { launch, staticAuth, startServer, stockFails, within } from "./server.mjs";

const bytes = (...all) => Uint8Array.from(all);
const repeated = (count, ...all) => new Uint8Array(count * all.length).map((_, index) => all[index % all.length]);

// One struct of client 1, clock 0: content any, an array in an array in an array …
const nestedDeeply = (depth) => Uint8Array.from([1, 1, 1, 0, 8, 1, 1, 116, 1, ...repeated(depth, 117, 1), 126, 0]);

const badUpdates = {
  "an update that ends early": bytes(1, 3, 1, 0, 4),
  "an update of random bytes": bytes(7, 99, 200, 13, 255, 255, 1, 2),
  "an update that claims four billion clients": bytes(255, 255, 255, 255, 15),
  "an update that claims more structs than it has bytes": bytes(1, 255, 255, 255, 255, 15, 1, 0),
  "an update with an unknown content type": bytes(1, 1, 1, 0, 31, 1, 1, 116, 0),
  "an update whose delete set ends early": bytes(0, 1, 1),
  "an update nested a hundred thousand deep": nestedDeeply(100_000),
  "an empty update": bytes(),
};

const badMessages = {
  ...Object.fromEntries(Object.entries(badUpdates).map(([what, update]) => [what, [wire.sync, 2, update]])),
  "a sync step 2 of random bytes": [wire.sync, 1, badUpdates["an update of random bytes"]],
  "a state vector that claims four billion clients": [wire.sync, 0, bytes(255, 255, 255, 255, 15)],
  "an unknown sync step": [wire.sync, 9, emptyUpdate],
  "a sync message without a step": [wire.sync],
  "awareness of random bytes": [wire.awareness, bytes(9, 200, 1, 255)],
  "awareness that is no JSON": [wire.awareness, frame(1, 1, 1, "{not json")],
  "awareness that claims four billion clients": [wire.awareness, bytes(255, 255, 255, 255, 15)],
  "a number that never ends": [wire.sync, 2, repeated(20, 255)],
};

const badFirstFrames = {
  "an empty frame": bytes(),
  "a name longer than its frame": bytes(20, 97, 98),
  "a name alone": frame("name"),
  "a name that is not UTF-8": bytes(2, 0xc3, 0x28, wire.auth, 0, 1, 97),
  "a name of 100 kB": frame("n".repeat(100_000), wire.auth, 0, "token"),
  "a token that ends early": bytes(1, 97, wire.auth, 0, 200, 1),
  "a length of 2^60": bytes(255, 255, 255, 255, 255, 255, 255, 255, 15),
  "a plain step 1 where the path has no name": hello.plainStep1,
};

// Each test attacks a document of its own.
const attackedBy = (t) => t.name.replaceAll(/[^a-z0-9]/g, "");

// Where a socket may carry many documents, the end of the one session is enough.
const ended = (dialect) => (dialect === "hocuspocus" ? refusedForAReason : closedForAReason);

// Two people with a document of their own and one in the attacked document: they must not notice anything.
async function bystanders(t, server, attacked) {
  const [a, b] = [1, 2].map(() => connect(t, "provider 4.8", server, `${attacked}-quiet`));
  const inside = connect(t, "provider 4.8", server, attacked);
  await Promise.all([a, b, inside].map((client) => client.synced()));
  inside.text.insert(0, "content ");
  await inside.saved();
  return async () => {
    const text = `still here ${Math.random()}`;
    a.text.insert(0, text);
    await eventually(() => b.text.toString().startsWith(text), "the others go on editing");
    inside.text.insert(0, "x");
    await inside.saved();
    assert.deepEqual([a, b, inside].flatMap(({ closes }) => closes), [], "nobody else is closed");
    const fresh = connect(t, "provider 4.8", server, attacked);
    await fresh.synced();
    await eventually(() => fresh.text.toString() === inside.text.toString(), "a newcomer sees the same");
    fresh.destroy();
  };
}

// All at once, and every failure told.
async function each(cases, check) {
  const results = await Promise.allSettled(Object.entries(cases).map(([what, input]) => check(what, input)));
  const failures = results.filter(({ status }) => status === "rejected").map(({ reason }) => reason.message);
  assert.deepEqual(failures, []);
}

async function enterAs(t, server, dialect, attacked) {
  const raw = await openRaw(t, server, dialect === "hocuspocus" ? "/" : `/${attacked}`);
  if (dialect === "hocuspocus") raw.send(hello.auth(attacked), hello.step1(attacked));
  else raw.send(hello.plainStep1);
  await eventually(() => raw.frames.length >= 2, `the ${dialect} attacker is in`);
  return raw;
}

describe("hostile", { concurrency: 4 }, () => {
  let server;
  before(async () => {
    server = await launch();
  });
  after(async () => {
    const alive = server.running();
    await server.remove();
    assert.ok(alive, `the server died:\n${server.stdout}${server.stderr}`);
  });

  test("each bad first frame closes its connection", stockFails("most of them are ignored or only logged"), async (t) => {
    const unharmed = await bystanders(t, server, attackedBy(t));
    await each(badFirstFrames, async (what, first) => {
      const raw = await openRaw(t, server);
      raw.send(first);
      await closedForAReason(raw, what);
    });
    await unharmed();
  });

  for (const dialect of ["hocuspocus", "y-websocket"]) {
    test(`each bad message closes its connection: ${dialect}`, stockFails("many are ignored or only logged"), async (t) => {
      const unharmed = await bystanders(t, server, attackedBy(t));
      await each(badMessages, async (what, parts) => {
        const raw = await enterAs(t, server, dialect, attackedBy(t));
        raw.send(dialect === "hocuspocus" ? frame(attackedBy(t), ...parts) : frame(...parts));
        await ended(dialect)(raw, what);
      });
      await unharmed();
    });

    test(`a text frame closes its connection: ${dialect}`, stockFails("it takes the text for bytes"), async (t) => {
      const unharmed = await bystanders(t, server, attackedBy(t));
      const raw = await enterAs(t, server, dialect, attackedBy(t));
      raw.socket.send("text, not bytes");
      const { code } = await closedForAReason(raw, "a text frame");
      assert.ok(code === 1003 || code >= 4000, `${code}`);
      await unharmed();
    });
  }

  test("a blank document name is refused", async (t) => {
    for (const name of ["", " \t "]) {
      const raw = await openRaw(t, server);
      raw.send(hello.auth(name), hello.step1(name));
      await refusedForAReason(raw, "a blank name");
    }
  });

  // As stock does: a later provider may know more than we.
  for (const dialect of ["hocuspocus", "y-websocket"]) {
    test(`unknown message types are ignored: ${dialect}`, async (t) => {
      const named = dialect === "hocuspocus" ? [attackedBy(t)] : [];
      const raw = await enterAs(t, server, dialect, attackedBy(t));
      for (const type of [11, 42, 300, ...(named.length === 0 ? [wire.stateless, wire.broadcastStateless, wire.close] : [])]) {
        raw.send(frame(...named, type, "payload"));
      }
      const before = raw.frames.length;
      raw.send(frame(...named, wire.sync, 0, bytes(0)));
      await eventually(() => raw.frames.length > before, "the next question is answered");
    });
  }

  test("mutated frames harm their own connection at most", async (t) => {
    const unharmed = await bystanders(t, server, attackedBy(t));
    const doc = new Y.Doc();
    doc.getText("text:shared").insert(0, "a valid update ");
    doc.getMap("map:m").set("key", { a: [1, "two", null], b: new Uint8Array(3) });
    doc.getText("text:shared").delete(2, 5);
    const valid = [frame(wire.sync, 2, Y.encodeStateAsUpdate(doc)), frame(wire.awareness, frame(1, doc.clientID, 1, '{"user":{"name":"eve"}}'))];
    // A fixed seed: a failure comes again.
    let seed = 7;
    const random = (below) => ((seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) >>> 8) % below;
    for (let variant = 0; variant < 200; variant++) {
      const mutated = valid[variant % 2].slice(0, random(4) ? undefined : random(valid[variant % 2].length));
      for (let flips = 1 + random(3); flips > 0; flips--) if (mutated.length > 0) mutated[random(mutated.length)] ^= 1 << random(8);
      const raw = await enterAs(t, server, "y-websocket", attackedBy(t));
      raw.send(mutated);
      // Whatever it has become: an answer to a question behind it, or a close that says why.
      raw.send(frame(wire.queryAwareness), hello.plainStep1);
      const frames_before = raw.frames.length;
      const outcome = await Promise.race([raw.closed, eventually(() => raw.frames.length > frames_before, `an answer after ${mutated}`)]);
      if (outcome !== true) assert.ok(outcome.code > 1006 && outcome.reason !== "", `${mutated}: ${JSON.stringify(outcome)}`);
      raw.socket.terminate();
    }
    await unharmed();
  });

  test("a giant frame is refused at its header", stockFails("a frame up to 100 MB is taken in"), async (t) => {
    const unharmed = await bystanders(t, server, attackedBy(t));
    const header = (length) => {
      const start = Buffer.alloc(14);
      start[0] = 0x82;
      start[1] = 0xff;
      start.writeBigUInt64BE(length, 2);
      return start;
    };
    for (const length of [60n << 20n, 1n << 40n, (1n << 63n) - 1n]) {
      const raw = await enterAs(t, server, "hocuspocus", attackedBy(t));
      raw.socket._socket.write(header(length));
      const { code } = await closedForAReason(raw, `a frame of ${length} bytes`);
      assert.equal(code, 1009, "message too big");
    }
    await unharmed();
  });

  test("a giant message in fragments is refused, too", stockFails("a frame up to 100 MB is taken in"), async (t) => {
    const raw = await enterAs(t, server, "hocuspocus", attackedBy(t));
    const part = Buffer.alloc(4 << 20);
    for (let sent = 0; sent < 20 && !raw.isClosed; sent++) {
      await new Promise((done) => raw.socket.send(part, { fin: false }, done));
    }
    const { code } = await within(10_000, "the close", raw.closed);
    // The reset that a closing server sends to a sender may overtake its close frame.
    assert.ok(code === 1009 || code === 1006, `${code}`);
    await (await bystanders(t, server, attackedBy(t)))();
  });

  test("a large paste is no giant", async (t) => {
    const [a, b] = ["large", "large"].map((name) => connect(t, "provider 4.8", server, name));
    a.text.insert(0, "0123456789".repeat(500_000));
    await a.saved();
    await eventually(() => b.text.length === 5_000_000, "5 MB arrive", 20_000);
  });

  test("oversized and unfinished HTTP headers end the connection", async (t) => {
    const exchange = (request) =>
      new Promise((done) => {
        let answer = "";
        const socket = connectTcp(server.port, "127.0.0.1", () => socket.write(request));
        socket.on("data", (chunk) => (answer += chunk));
        socket.on("error", () => done(answer));
        socket.on("close", () => done(answer));
        t.after(() => socket.destroy());
      });
    const answer = await within(10_000, "the refusal", exchange(`GET / HTTP/1.1\r\nHost: x\r\nX: ${"a".repeat(1 << 20)}\r\n\r\n`));
    assert.ok(answer === "" || /^HTTP\/1\.1 4\d\d/.test(answer), answer.slice(0, 80));
    const garbage = await within(10_000, "the refusal", exchange("\x16\x03\x01 this is no HTTP\r\n\r\n"));
    assert.ok(garbage === "" || /^HTTP\/1\.1 4\d\d/.test(garbage), garbage.slice(0, 80));
  });
});

describe("before authentication", { concurrency: 3 }, () => {
  // A tenth more than the limits: what came before the first refusal is forgotten with it.
  const floods = {
    "more than 5 MiB": Array.from({ length: 7 }, () => frame("guarded", wire.sync, 2, new Uint8Array(1 << 20))),
    "more than 1,000 messages": Array.from({ length: 1_100 }, () => hello.step1("guarded")),
    "more than 100 documents": Array.from({ length: 110 }, (_, index) => hello.step1(`guarded ${index}`)),
  };
  for (const [what, frames] of Object.entries(floods)) {
    test(`${what} close the connection`, async (t) => {
      const server = await startServer(t, staticAuth);
      const raw = await openRaw(t, server);
      raw.send(...frames);
      await closedForAReason(raw, what);
    });
  }
});
