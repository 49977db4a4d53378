// What a program of a user does around a Node server under test, by environment variable, the same for stock and ours.
// HOOKS: none | change | state | tiptap. SOCKETS: server | ws.
import http from "node:http";

/** Paragraphs of the ProseMirror-like document that `tiptap` begins with. */
const PARAGRAPHS = 20;
/** Stores come within the measured window, which is shorter than Hocuspocus' own debounce. */
const STORING = { debounce: 200, maxDebounce: 1000 };

let seen = 0;

/** `modules`: yjs and the transformer, of the copy that the server uses. */
export function configurationOf({ Y, TiptapTransformer }) {
  const sets = {
    none: {},
    change: {
      async onChange({ update }) {
        seen += update.length;
      },
    },
    state: {
      ...STORING,
      async onStoreDocument({ document }) {
        seen += Y.encodeStateAsUpdate(document).length;
      },
    },
    tiptap: {
      ...STORING,
      async onLoadDocument({ document }) {
        const paragraphs = Array.from({ length: PARAGRAPHS }, (_, index) => {
          const paragraph = new Y.XmlElement("paragraph");
          const text = new Y.XmlText();
          text.insert(0, `Paragraph ${index} says what a paragraph of a note says. `);
          text.insert(4, "bold words", { bold: true });
          paragraph.insert(0, [text]);
          return paragraph;
        });
        document.getXmlFragment("default").insert(0, paragraphs);
      },
      async onStoreDocument({ document }) {
        seen += JSON.stringify(TiptapTransformer.fromYdoc(document, "default")).length;
      },
    },
  };
  const chosen = sets[process.env.HOOKS ?? "none"];
  if (chosen === undefined) throw new Error(`HOOKS is one of ${Object.keys(sets).join(", ")}`);
  return chosen;
}

/** Serves on PORT: through the package's own server, or through one of the program's with ws and `handleConnection`. */
export async function serve({ Server, Hocuspocus, WebSocketServer }, configuration) {
  const port = Number(process.env.PORT);
  process.on("SIGUSR2", () => globalThis.gc?.());
  if ((process.env.SOCKETS ?? "server") === "server") {
    await new Server({ ...configuration, port, address: "127.0.0.1", quiet: true }).listen();
  } else {
    const hocuspocus = new Hocuspocus({ ...configuration, quiet: true });
    const server = http.createServer((_request, response) => response.end("okay"));
    new WebSocketServer({ server }).on("connection", (socket, request) => {
      const headers = new Headers(Object.entries(request.headers).map(([name, value]) => [name, String(value)]));
      const client = hocuspocus.handleConnection(socket, new Request(`http://127.0.0.1${request.url}`, { headers }), {});
      socket.on("message", (frame) => client.handleMessage(new Uint8Array(frame.buffer, frame.byteOffset, frame.byteLength)));
      socket.on("close", (code, reason) => client.handleClose({ code, reason: String(reason) }));
    });
    await new Promise((resolve) => server.listen(port, "127.0.0.1", 4096, resolve));
  }
  console.log(`listening ${port}`);
}
