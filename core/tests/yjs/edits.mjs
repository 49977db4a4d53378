// Random edits of all that yjs documents hold.
import * as Y from 'yjs'

export const NESTED = 1
export const FORMATS = 2
export const UNDO = 4
export const MAPS = 8
export const XML = 16
export const PASTES = 32
export const SUBDOCS = 64
export const ARRAYS = 128
export const TYPING = 256

const WORDS = ['a', 'xy', 'hello ', 'Grüße', '\n', '漢字', '😀', 'e\u0301', '👩‍👩‍👧', ' ', 'The quick brown fox']
const KEYS = ['k', 'title', 'done', 'ü', '']

const value = (r, depth = 0) => {
  switch (r.below(depth < 3 ? 13 : 9)) {
    case 0: return r.below(1000) - 500
    case 1: return r.pick(WORDS)
    case 2: return r.chance(0.5)
    case 3: return null
    case 4: return r.below(1e9) / 7
    case 5: return 2n ** BigInt(r.below(63))
    case 6: return new Uint8Array(r.below(12)).fill(r.below(256))
    case 7: return undefined
    case 8: return 0.5
    case 9: case 10: return Array.from({ length: r.below(4) }, () => value(r, depth + 1))
    default: return Object.fromEntries(KEYS.slice(0, r.below(4)).map(k => [k, value(r, depth + 1)]))
  }
}

/** What an array takes, which is not quite all that a map does. */
const element = r => {
  const v = value(r)
  return v === undefined || typeof v === 'bigint' ? [v] : v
}

/** What JSON carries as well: formats and embeds. */
const plain = (r, depth = 0) => {
  switch (r.below(depth < 3 ? 7 : 5)) {
    case 0: return r.below(100)
    case 1: return r.pick(WORDS)
    case 2: return true
    case 3: return null
    case 4: return 1.5
    case 5: return [plain(r, depth + 1)]
    default: return { [r.pick(KEYS)]: plain(r, depth + 1) }
  }
}

const nested = (r, features) => {
  switch (r.below(6)) {
    case 0: { const t = new Y.Text(); t.insert(0, r.pick(WORDS)); return t }
    case 1: { const m = new Y.Map(); m.set(r.pick(KEYS), value(r)); return m }
    case 2: { const a = new Y.Array(); a.insert(0, [element(r), element(r)]); return a }
    case 3: return xmlNode(r)
    case 4: if (features & SUBDOCS) return new Y.Doc({ guid: 'sub' + r.below(1e6), ...(r.chance(0.5) ? { autoLoad: true, meta: { m: r.below(9) } } : {}) })
    // falls through
    default: return new Y.Map()
  }
}

const xmlNode = r => {
  switch (r.below(4)) {
    case 0: { const t = new Y.XmlText(); t.insert(0, r.pick(WORDS)); return t }
    case 1: { const e = new Y.XmlElement('p'); e.insert(0, [new Y.XmlText(r.pick(WORDS))]); return e }
    case 2: return new Y.XmlHook('hook')
    default: { const e = new Y.XmlElement('div'); e.setAttribute('id', r.pick(WORDS)); return e }
  }
}

const children = type => {
  const found = []
  if (type instanceof Y.Map) type.forEach(v => { if (v instanceof Y.AbstractType) found.push(v) })
  else if (type instanceof Y.Array || type instanceof Y.XmlFragment) type.toArray().forEach(v => { if (v instanceof Y.AbstractType) found.push(v) })
  return found
}

/** One of the document's types, nested ones included. */
const target = (doc, r, features) => {
  const roots = [doc.getText('t')]
  if (features & MAPS) roots.push(doc.getMap('m'))
  if (features & ARRAYS) roots.push(doc.getArray('a'))
  if (features & XML) roots.push(doc.getXmlFragment('x'))
  let type = r.pick(roots)
  if (features & NESTED || type instanceof Y.XmlFragment) {
    while (r.chance(0.6)) {
      const inside = children(type)
      if (inside.length === 0) break
      type = r.pick(inside)
    }
  }
  return type
}

const editText = (text, r, features) => {
  const length = text.length
  const at = r.below(length + 1)
  switch (r.below(10)) {
    case 0: case 1: case 2: case 3:
      text.insert(at, r.pick(WORDS))
      break
    case 4: case 5: case 6: {
      if (length === 0) break
      const from = r.below(length)
      text.delete(from, Math.min(1 + r.below(r.chance(0.2) ? length : 6), length - from))
      break
    }
    case 7: case 8:
      // A format that changes nothing may split a surrogate pair in its own replica alone: yjs' replicas then differ.
      if (features & FORMATS && length > 0 && !/[\ud800-\udfff]/.test(text.toString())) {
        const from = r.below(length)
        text.format(from, Math.min(1 + r.below(8), length - from), { [r.pick(['bold', 'color'])]: r.chance(0.3) ? null : plain(r) })
      } else text.insert(at, 'plain')
      break
    default:
      if (features & FORMATS) text.insertEmbed(at, r.chance(0.2) && features & NESTED ? new Y.Map() : plain(r) ?? {})
      else if (features & PASTES) text.insert(at, r.pick(WORDS).repeat(100 + r.below(200)))
      else text.insert(at, 'x')
  }
}

const editMap = (map, r, features) => {
  if (r.chance(0.2)) return map.delete(r.pick(KEYS))
  map.set(r.pick(KEYS), features & NESTED && r.chance(0.35) ? nested(r, features) : value(r))
}

const editArray = (array, r, features) => {
  const length = array.length
  if (length > 0 && r.chance(0.3)) {
    const from = r.below(length)
    return array.delete(from, Math.min(1 + r.below(4), length - from))
  }
  const at = r.chance(0.5) ? length : r.below(length + 1)
  array.insert(at, features & NESTED && r.chance(0.3) ? [nested(r, features)] : Array.from({ length: 1 + r.below(4) }, () => element(r)))
}

const editXml = (xml, r) => {
  const length = xml.length
  if (xml instanceof Y.XmlElement && r.chance(0.3)) {
    const name = r.pick(['id', 'class'])
    return r.chance(0.3) ? xml.removeAttribute(name) : xml.setAttribute(name, r.pick(WORDS))
  }
  if (length > 0 && r.chance(0.3)) return xml.delete(r.below(length), 1)
  xml.insert(r.below(length + 1), [xmlNode(r)])
}

const editOnce = (doc, r, features) => {
  const type = target(doc, r, features)
  if (type instanceof Y.Text) editText(type, r, features)
  else if (type instanceof Y.Array) editArray(type, r, features)
  else if (type instanceof Y.XmlFragment) editXml(type, r)
  else if (type instanceof Y.Map) editMap(type, r, features)
}

/** One transaction: an edit, some edits, an undo, a redo, or a typed run of transactions. */
export const edit = (doc, undo, r, features) => {
  if (features & UNDO && r.chance(0.15)) {
    if (r.chance(0.6)) undo.undo()
    else undo.redo()
    return
  }
  if (features & TYPING && r.chance(0.2)) {
    const text = doc.getText('t')
    let at = r.below(text.length + 1)
    if (r.chance(0.3)) {
      for (let i = r.below(12); i > 0 && at > 0; i--) text.delete(--at, 1)
    } else {
      const typed = r.pick(['typing along', 'ünïcödé 😀 漢', 'x'.repeat(300)])
      for (const character of typed) {
        text.insert(at, character)
        at += character.length
      }
    }
    return
  }
  doc.transact(() => {
    for (let i = r.chance(0.7) ? 1 : 1 + r.below(6); i > 0; i--) editOnce(doc, r, features)
  })
}
