// A reader that stops reading: it costs the server a bounded amount of memory and the others nothing, and misses nothing.
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { connect } from "./clients.mjs";
import { converged, eventually } from "./convergence.mjs";
import { startServer, stockFails } from "./server.mjs";

const rounds = 3_000;
const edit_bytes = 30_000;
// Of the 90 MB that the reader does not take; the same edits cost some 35 MiB with everybody reading.
const growth_bytes_max = 64 << 20;

const residentBytes = async ({ process }) =>
  Number((await readFile(`/proc/${process.pid}/status`, "utf8")).match(/VmRSS:\s+(\d+) kB/)[1]) * 1024;

describe("slow", () => {
  for (const kind of ["y-websocket 3.1", "provider 4.8"]) {
    test(`a reader that stops reading for a while: ${kind}`, stockFails("it keeps the whole backlog"), async (t) => {
      const server = await startServer(t, { WS_DEBOUNCE_MS: "100", WS_MAX_DEBOUNCE_MS: "300" });
      const writer = connect(t, "provider 4.8", server, "busy");
      const witness = connect(t, "provider 3.4", server, "busy");
      const reader = connect(t, kind, server, "busy", { abortable: true });
      await Promise.all([writer, witness, reader].map((client) => client.synced()));
      const before = await residentBytes(server);

      const { _socket } = reader.provider.ws ?? reader.socket.webSocket;
      _socket.pause();
      const paused_at = Date.now();
      let most = 0;
      for (let round = 0; round < rounds; round++) {
        writer.doc.transact(() => {
          writer.text.delete(0, writer.text.length);
          writer.text.insert(0, String(round).padStart(edit_bytes, "."));
        });
        if (round % 50 === 0) {
          await eventually(() => writer.provider.unsyncedChanges < 50, "the writer is not held up");
          most = Math.max(most, await residentBytes(server));
        }
      }
      await writer.saved();
      await converged([writer.doc, witness.doc]);
      t.diagnostic(`resident: ${before >> 20} MiB before, at most ${most >> 20} MiB`);
      assert.ok(most - before < growth_bytes_max, `${(most - before) >> 20} MiB for a reader that does not read`);

      _socket.resume();
      await converged([writer.doc, reader.doc]);
      // A socket that takes nothing for 30 s is given up, and the provider comes back; slow machines get there.
      if (Date.now() - paused_at < 20_000) assert.deepEqual(reader.closes, []);
      // Compacting updates while merging them must not have cost content.
      assert.equal(reader.text.toString(), String(rounds - 1).padStart(edit_bytes, "."));
    });
  }
});
