// Who may open which document: by a table of shares, by the application's word, by a JWT's claims; and the webhooks.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { secret, startBetterAuth } from "./better-auth.mjs";
import { introduce, knock } from "./knock.mjs";
import { startPostgres } from "./postgres.mjs";
import { connect } from "../provider/clients.mjs";
import { eventually, stays } from "../provider/convergence.mjs";
import { hello, openRaw } from "../provider/raw.mjs";
import { atEnd, startServer } from "../provider/server.mjs";
import { WebSocket } from "../provider/node_modules/ws/wrapper.mjs";
// The very module of the providers: two copies of yjs do not understand each other.
import * as Y from "../provider/node_modules/yjs/dist/yjs.mjs";

let postgres, database, auth, environment;
before(async () => {
  postgres = await startPostgres();
  database = await postgres.database("access");
  auth = await startBetterAuth({ version: "1.7.25", adapter: "built-in" }, database);
  environment = { WS_AUTH: "better-auth", BETTER_AUTH_SECRET: secret, BETTER_AUTH_URL: auth.baseURL, DATABASE_URL: "memory:", WS_AUTH_DATABASE_URL: database.url };
});
after(async () => {
  await auth.stop();
  await postgres.stop();
});

const shared = "a-secret-of-the-application-and-us";

/** An application that answers `{ event, payload }` with what `decide` returns: `[status, body]`. */
async function application(t, decide) {
  const calls = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const signature = `sha256=${createHmac("sha256", shared).update(body).digest("hex")}`;
    if (request.headers["x-hocuspocus-signature-256"] !== signature) return response.writeHead(500).end();
    const call = JSON.parse(body);
    calls.push(call);
    const [status, answer] = decide(call);
    response.writeHead(status, { "content-type": "application/json" }).end(answer === undefined ? "" : JSON.stringify(answer));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const app = { calls, url: `http://127.0.0.1:${server.address().port}/hook`, stop: () => new Promise((done) => (server.closeAllConnections(), server.close(done))) };
  atEnd(t, app.stop);
  return app;
}

const base64url = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const jwtSecret = "0123456789abcdef0123456789abcdef";
function jwt(claims, seconds = 60, key = jwtSecret) {
  const head = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url({ exp: Math.floor(Date.now() / 1000) + seconds, ...claims })}`;
  return `${head}.${createHmac("sha256", key).update(head).digest("base64url")}`;
}

/** The scope that a document is opened with, "denied", or "later" where the socket is closed with an invitation to come back. */
async function scope(t, server, name, token) {
  const client = connect(t, "provider 4.8", server, name, { token });
  await eventually(() => client.verdicts.length > 0 || client.closes.length > 0, "a verdict");
  const [verdict] = client.verdicts;
  const later = client.closes.some(({ code }) => code === 1013);
  client.destroy();
  if (verdict === undefined) return later ? "later" : "closed";
  return verdict.startsWith("failed") ? "denied" : verdict;
}

describe("per document", () => {
  test("a query over the application's tables decides, and its answer changes in time", async (t) => {
    await database.query("create table share (user_id text, document text, access text)");
    const server = await startServer(t, {
      ...environment, WS_AUTH_RECHECK_MS: "1000", WS_ACCESS_CACHE_MS: "300",
      WS_ACCESS_QUERY: "select access from share where user_id = $user and document = $document -- what the owner gave",
    });
    const user = await auth.signUp();
    const share = (document, access) => database.query("insert into share values ($1, $2, $3)", [user.id, document, access]);
    await Promise.all([share("mine", "rw"), share("read", "ro"), share("role", "viewer"), share("none", "none")]);
    const scopes = {};
    for (const name of ["mine", "read", "role", "none", "other"]) scopes[name] = await scope(t, server, name, user.token);
    assert.deepEqual(scopes, { mine: "read-write", read: "readonly", role: "readonly", none: "denied", other: "denied" });

    const client = connect(t, "provider 4.8", server, "mine", { token: user.token });
    await client.synced();
    await database.query("update share set access = 'ro' where document = 'mine'");
    await eventually(() => client.verdicts.at(-1) === "readonly", "an open session changes", 8000);
    await database.query("delete from share where document = 'mine'");
    await eventually(() => client.closes.length > 0, "and ends", 8000);
  });

  test("the application is asked, and its silence is a no that may pass", async (t) => {
    const answers = { mine: [200, { access: "rw" }], read: [200, { access: "viewer" }], other: [403], broken: [500] };
    const app = await application(t, ({ payload }) => answers[payload.documentName]);
    const server = await startServer(t, { ...environment, WS_ACCESS_URL: app.url, WS_ACCESS_SECRET: shared });
    const user = await auth.signUp();
    const scopes = {};
    for (const name of Object.keys(answers)) scopes[name] = await scope(t, server, name, user.token);
    assert.deepEqual(scopes, { mine: "read-write", read: "readonly", other: "denied", broken: "later" });
    assert.equal(await knock(t, server, `/broken?token=${user.token}`), 1013);
    assert.equal(app.calls[0].payload.user, user.id);
    const asked = app.calls.length;
    await scope(t, server, "mine", user.token);
    assert.equal(app.calls.length, asked, "an answer is remembered");
  });

  test("a JWT names its documents", async (t) => {
    const server = await startServer(t, { WS_AUTH: "jwt", WS_JWT_SECRET: jwtSecret, WS_JWT_AUDIENCE: "us" });
    const token = jwt({ sub: "u", aud: "us", allowedDocumentNames: ["team-*", "a"], readonlyDocumentNames: ["team-plan"] });
    const scopes = {};
    for (const name of ["a", "team-x", "team-plan", "b"]) scopes[name] = await scope(t, server, name, token);
    assert.deepEqual(scopes, { a: "read-write", "team-x": "read-write", "team-plan": "readonly", b: "denied" });
    for (const bad of [jwt({ sub: "u", aud: "them" }), jwt({ sub: "u", aud: "us" }, -120), jwt({ sub: "u", aud: "us" }, 60, "x".repeat(32)), jwt({ aud: "us" })]) {
      assert.equal(await introduce(t, server, "a", bad), "denied");
    }
  });

  test("a JWT's end is the session's, unless a fresh one comes in time", async (t) => {
    const server = await startServer(t, { WS_AUTH: "jwt", WS_JWT_SECRET: jwtSecret });
    let token = jwt({ sub: "u" }, 3);
    const [kept, left] = ["kept", "left"].map((name) => connect(t, "provider 4.8", server, name, { token: () => token }));
    const raw = await openRaw(t, server, `/kept?token=${token}`);
    raw.send(hello.plainStep1);
    await Promise.all([kept.synced(), left.synced()]);
    token = jwt({ sub: "u" }, 60);
    await kept.provider.sendToken();
    await eventually(() => left.closes.length > 0 && raw.isClosed, "the others end", 8000);
    assert.equal((await raw.closed).code, 4401);
    await stays(() => kept.closes.length === 0, "it goes on", 1500);
    token = jwt({ sub: "somebody else" }, 60);
    await kept.provider.sendToken();
    await eventually(() => kept.closes.length > 0, "another user's token ends it");
  });

  test("keys are fetched over HTTP", async (t) => {
    const server = await startServer(t, {
      WS_AUTH: "jwt", WS_JWKS_URL: `${auth.url}/jwks`, WS_JWT_ISSUER: auth.baseURL, WS_JWT_AUDIENCE: auth.baseURL,
    });
    const user = await auth.signUp();
    assert.equal(await introduce(t, server, "a", await auth.jwt(user)), "open");
    const elsewhere = await startServer(t, { WS_AUTH: "jwt", WS_JWKS_URL: `${auth.url}/jwks`, WS_JWT_AUDIENCE: "https://other.example" });
    assert.equal(await introduce(t, elsewhere, "a", await auth.jwt(user)), "denied");
    const away = await startServer(t, { WS_AUTH: "jwt", WS_JWKS_URL: "http://127.0.0.1:9/jwks" });
    assert.equal(await knock(t, away, `/a?token=${await auth.jwt(user)}`), 1013);
  });
});

describe("refusals by HTTP", () => {
  test("the handshake itself is refused, and lets in whom it knows", async (t) => {
    const server = await startServer(t, { ...environment, WS_AUTH_REJECT: "http" });
    const user = await auth.signUp();
    const answer = (path, headers = {}) =>
      new Promise((done) => {
        const socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}`, { headers });
        socket.on("unexpected-response", (_, response) => (done(response.statusCode), socket.terminate()));
        socket.on("open", () => (done(101), socket.close()));
        socket.on("error", () => {});
      });
    assert.equal(await answer("/room"), 401);
    assert.equal(await answer("/"), 401, "no document in the URL, and nothing to be judged by");
    assert.equal(await answer("/room?token=wrong"), 401);
    assert.equal(await answer("/a%20b", { authorization: `Bearer ${user.token}` }), 403);
    assert.equal(await answer(`/room?token=${user.token}`), 101);
    assert.equal(await answer("/", { authorization: `Bearer ${user.token}` }), 101);
  });
});

describe("refusals by HTTP, of whoever comes too often", () => {
  test("tokens are not looked up beyond the limits of an address", async (t) => {
    const server = await startServer(t, { ...environment, WS_AUTH_REJECT: "http", WS_MAX_CONNECTS_PER_MINUTE: "3" });
    const answer = (token) =>
      new Promise((done) => {
        const socket = new WebSocket(`ws://127.0.0.1:${server.port}/room?token=${token}`);
        socket.on("unexpected-response", (_, response) => (done(response.statusCode), socket.terminate()));
        socket.on("error", () => {});
      });
    const answers = [];
    for (let i = 0; i < 5; i++) answers.push(await answer(`guess${i}`));
    assert.deepEqual(answers, [401, 401, 401, 429, 429]);
  });
});

describe("webhooks", () => {
  test("the application lets in, gives documents, and hears of changes, stores and ends", async (t) => {
    const doc = new Y.Doc();
    doc.getText("text:shared").insert(0, "from the application");
    const update = Buffer.from(Y.encodeStateAsUpdate(doc)).toString("base64");
    const app = await application(t, ({ event, payload }) => {
      if (event === "authenticate") return payload.token === "good" ? [200, { user: "u9", readOnly: payload.documentName === "read" }] : [401];
      if (event === "create") return payload.documentName === "given" ? [200, { update }] : [404];
      if (event === "connect") return payload.documentName === "closed" ? [403] : [200, {}];
      return [200];
    });
    const server = await startServer(t, {
      WS_AUTH: "webhook", WS_WEBHOOK_URL: app.url, WS_WEBHOOK_SECRET: shared, WS_DEBOUNCE_MS: "200",
      WS_WEBHOOK_EVENTS: "connect,load,change,store,disconnect", WS_WEBHOOK_DEBOUNCE_MS: "100",
    });
    assert.equal(await scope(t, server, "read", "good"), "readonly");
    assert.equal(await scope(t, server, "given", "bad"), "denied");
    assert.equal(await scope(t, server, "closed", "good"), "denied");
    const client = connect(t, "provider 4.8", server, "given", { token: "good" });
    await client.synced();
    assert.equal(client.text.toString(), "from the application");
    client.text.insert(0, "more ");
    await client.saved();
    const told = (event) => app.calls.find((call) => call.event === event && call.payload.documentName === "given");
    await eventually(() => told("change") && told("store"), "a change and a store are told of");
    const stored = new Y.Doc();
    const snapshots = app.calls.filter(({ event, payload }) => event === "store" && payload.documentName === "given");
    for (const { payload } of snapshots) Y.applyUpdate(stored, Buffer.from(payload.snapshot, "base64"));
    assert.equal(stored.getText("text:shared").toString(), "more from the application");
    assert.equal(told("change").payload.document, undefined, "only where it is asked for");
    client.destroy();
    await eventually(() => told("disconnect"), "the end is told of");
    assert.equal(told("disconnect").payload.user, "u9");
    await app.stop();
    assert.equal(await knock(t, server, "/given?token=good"), 1013, "nobody answers: closed, to come back");
  });

  test("a change is told with the document, as JSON of any types or as Tiptap has it", async (t) => {
    for (const form of ["json", "prosemirror"]) {
      const app = await application(t, () => [200]);
      const server = await startServer(t, {
        WS_AUTH: "none", WS_WEBHOOK_URL: app.url, WS_WEBHOOK_SECRET: shared, WS_WEBHOOK_DEBOUNCE_MS: "50", WS_WEBHOOK_DOCUMENT: form,
      });
      const client = connect(t, "provider 4.8", server, "page");
      await client.synced();
      client.doc.transact(() => {
        const heading = new Y.XmlElement("heading");
        heading.setAttribute("level", 2);
        heading.push([new Y.XmlText("title")]);
        client.doc.getXmlFragment("default").push([heading]);
        client.doc.getMap("meta").set("n", 1);
      });
      const call = await eventually(() => app.calls.at(-1)?.payload.document && app.calls.at(-1), "the change is told of");
      const xml = '<heading level="2">title</heading>';
      const node = { type: "doc", content: [{ type: "heading", attrs: { level: 2 }, content: [{ type: "text", text: "title" }] }] };
      assert.deepEqual(call.payload.document, { default: form === "json" ? xml : node, meta: { n: 1 } });
      const doc = new Y.Doc();
      Y.applyUpdate(doc, Buffer.from(call.payload.update, "base64"));
      assert.equal(doc.getMap("meta").get("n"), 1);
      assert.deepEqual([call.event, call.payload.documentName, call.payload.updates], ["change", "page", 1]);
    }
  });
});
