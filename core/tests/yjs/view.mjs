// What a user sees of a document, as one comparable text.
import * as Y from 'yjs'

const sorted = object => Object.fromEntries(Object.keys(object).sort().map(key => [key, view(object[key])]))

const delta = text => {
  const joined = []
  for (const op of text.toDelta()) {
    const attributes = op.attributes ? sorted(op.attributes) : {}
    const last = joined.at(-1)
    // Where two runs of equal formats meet depends on how they were split.
    if (last && typeof op.insert === 'string' && typeof last.insert === 'string' && JSON.stringify(last.attributes) === JSON.stringify(attributes)) {
      last.insert += op.insert
    } else joined.push({ insert: typeof op.insert === 'string' ? op.insert : view(op.insert), attributes })
  }
  return joined
}

/** A plain value that stands for `v`, a type or what types hold. */
export const view = v => {
  if (v instanceof Y.XmlText) return { xmlText: delta(v), attributes: sorted(v.getAttributes()) }
  if (v instanceof Y.Text) return { text: delta(v) }
  if (v instanceof Y.XmlElement) return { element: v.nodeName, attributes: sorted(v.getAttributes()), children: v.toArray().map(view) }
  if (v instanceof Y.XmlFragment) return { fragment: v.toArray().map(view) }
  if (v instanceof Y.XmlHook) return { hook: v.hookName }
  if (v instanceof Y.Map) return { map: Object.fromEntries([...v.keys()].sort().map(key => [key, view(v.get(key))])) }
  if (v instanceof Y.Array) return { array: v.toArray().map(view) }
  if (v instanceof Y.Doc) return { doc: v.guid, autoLoad: v.autoLoad, meta: view(v.meta) }
  if (v instanceof Uint8Array) return { bytes: [...v] }
  if (typeof v === 'bigint') return { bigint: String(v) }
  if (v === undefined) return { undefined: true }
  if (Array.isArray(v)) return v.map(view)
  if (v !== null && typeof v === 'object') return sorted(v)
  return v
}

/** The whole document. */
export const viewOf = doc => JSON.stringify([doc.getText('t'), doc.getMap('m'), doc.getArray('a'), doc.getXmlFragment('x')].map(view))
