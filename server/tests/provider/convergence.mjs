// Waiting for what the network brings, and the last word on it: every replica equals yjs' own merge of all updates.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import * as Y from "yjs";

const poll_ms = 10;
// Long enough for a machine that builds something else at the same time: only failures take it.
const patience_ms = 30_000;

/** Waits until `check()` is truthy and returns that; the failure names `what` and the last answer. */
export async function eventually(check, what, wait_ms = patience_ms) {
  const end = Date.now() + wait_ms;
  for (;;) {
    const answer = await check();
    if (answer) return answer;
    if (Date.now() > end) assert.fail(`not within ${wait_ms} ms: ${typeof what === "function" ? what() : what}`);
    await sleep(poll_ms);
  }
}

/** Waits and then demands that `check()` still holds: for what must not happen. */
export async function stays(check, what, wait_ms = 400) {
  const end = Date.now() + wait_ms;
  while (Date.now() < end) {
    assert.ok(await check(), what);
    await sleep(poll_ms);
  }
}

const sorted = (map) => [...map].sort(([a], [b]) => a - b);

// The same structs and deletions, whatever order the clients were met in.
const content = (doc) => {
  const deleted = Y.createDeleteSetFromStructStore(doc.store).clients;
  return JSON.stringify([
    sorted(Y.decodeStateVector(Y.encodeStateVector(doc))),
    sorted(deleted).map(([client, runs]) => [client, runs.map(({ clock, len }) => [clock, len])]),
  ]);
};

/** Shared types as JSON. Types are named `kind:name`, so that a merged document can define them. */
export function asJson(doc) {
  const define = { text: "getText", map: "getMap", array: "getArray", xml: "getXmlFragment" };
  const json = {};
  for (const key of [...doc.share.keys()].sort()) {
    const type = doc[define[key.split(":")[0]] ?? "getText"](key);
    json[key] = type instanceof Y.Text ? type.toDelta() : type.toJSON();
  }
  return json;
}

/** Keeps every update that the document makes itself: the oracle's input. */
export function record(doc, updates) {
  doc.on("update", (update, _origin, _doc, transaction) => {
    if (transaction.local) updates.push(update);
  });
}

/** Waits until all documents have the same state, and compares it with yjs' own merge of `updates`, where given. */
export async function converged(docs, updates, wait_ms = patience_ms) {
  await eventually(
    () => docs.every((doc) => content(doc) === content(docs[0])),
    () => `the replicas agree: ${docs.map(content).join("\n")}`,
    wait_ms,
  );
  for (const doc of docs) {
    assert.equal(doc.store.pendingStructs, null, "nothing waits for missing structs");
    assert.deepEqual(asJson(doc), asJson(docs[0]));
  }
  if (updates === undefined) return;
  const oracle = new Y.Doc();
  for (const key of docs[0].share.keys()) {
    const kind = key.split(":")[0];
    if (kind === "map") oracle.getMap(key);
    else if (kind === "array") oracle.getArray(key);
    else if (kind === "xml") oracle.getXmlFragment(key);
    else oracle.getText(key);
  }
  Y.applyUpdate(oracle, Y.mergeUpdates(updates));
  assert.equal(content(docs[0]), content(oracle), "the same state as yjs' own merge");
  assert.deepEqual(asJson(docs[0]), asJson(oracle));
}
