// The shared text: a TipTap editor bound to the document, its toolbar, and the carets of the others.

import { Editor, Extension } from '@tiptap/core'
import { Collaboration } from '@tiptap/extension-collaboration'
import { Placeholder } from '@tiptap/extensions'
import StarterKit from '@tiptap/starter-kit'
import { yCursorPlugin } from '@tiptap/y-tiptap'
import { readPerson } from './person.js'

const ACTIONS = {
  bold: { run: chain => chain.toggleBold(), active: editor => editor.isActive('bold') },
  italic: { run: chain => chain.toggleItalic(), active: editor => editor.isActive('italic') },
  strike: { run: chain => chain.toggleStrike(), active: editor => editor.isActive('strike') },
  code: { run: chain => chain.toggleCode(), active: editor => editor.isActive('code') },
  heading: { run: chain => chain.toggleHeading({ level: 2 }), active: editor => editor.isActive('heading') },
  bullets: { run: chain => chain.toggleBulletList(), active: editor => editor.isActive('bulletList') },
  numbers: { run: chain => chain.toggleOrderedList(), active: editor => editor.isActive('orderedList') },
  quote: { run: chain => chain.toggleBlockquote(), active: editor => editor.isActive('blockquote') },
  undo: { run: chain => chain.undo() },
  redo: { run: chain => chain.redo() }
}

/** Shows the text of a room; returns a function that takes it off the page. */
export function mountText (room, { element, toolbar }) {
  const editor = new Editor({
    element,
    // A style element made at run time would not pass the page's Content-Security-Policy; style.css has these rules.
    injectCSS: false,
    extensions: [
      // The document keeps the history, and a node appended by every window would multiply.
      StarterKit.configure({ undoRedo: false, trailingNode: false, link: false, heading: { levels: [1, 2, 3] } }),
      Collaboration.configure({ document: room.doc, field: 'text' }),
      carets(room.awareness),
      Placeholder.configure({ placeholder: 'Write here. Everybody in this room sees it, letter by letter.' })
    ],
    editorProps: {
      attributes: { 'aria-label': 'Shared text', role: 'textbox', 'aria-multiline': 'true', spellcheck: 'false' }
    }
  })
  const unbind = bindToolbar(editor, toolbar)
  return () => {
    unbind()
    editor.destroy()
    element.replaceChildren()
  }
}

function carets (awareness) {
  return Extension.create({
    name: 'carets',
    addProseMirrorPlugins: () => [
      yCursorPlugin(awareness, { awarenessStateFilter: hasCaret, cursorBuilder: buildCaret, selectionBuilder: buildSelection })
    ]
  })
}

/** Keeps out our own caret, and states whose shape the plugin would stumble over. */
function hasCaret (own, client, state) {
  const cursor = state?.cursor
  const isObject = value => value !== null && typeof value === 'object'
  return client !== own && isObject(cursor) && isObject(cursor.anchor) && isObject(cursor.head) &&
    isObject(state.user) && /^#[0-9a-f]{6}$/i.test(state.user.color)
}

function buildCaret (user) {
  const person = readPerson({ user })
  const caret = document.createElement('span')
  caret.className = 'caret'
  caret.style.setProperty('--person', person.color)
  const flag = document.createElement('span')
  flag.className = 'flag'
  flag.textContent = person.name
  // Word joiners on both sides keep the browser's own caret from being placed inside.
  caret.append('\u2060', flag, '\u2060')
  return caret
}

function buildSelection (user) {
  return { class: 'selected-by', style: `--person: ${readPerson({ user }).color}` }
}

function bindToolbar (editor, toolbar) {
  const buttons = [...toolbar.querySelectorAll('[data-action]')]
  const press = event => {
    const button = event.target.closest('[data-action]')
    if (button) ACTIONS[button.dataset.action].run(editor.chain().focus()).run()
  }
  // The editor keeps its selection only if the button does not take the focus.
  const keepFocus = event => event.preventDefault()
  const refresh = () => {
    for (const button of buttons) {
      const { active } = ACTIONS[button.dataset.action]
      if (active) button.setAttribute('aria-pressed', String(active(editor)))
    }
  }
  toolbar.addEventListener('click', press)
  toolbar.addEventListener('mousedown', keepFocus)
  editor.on('transaction', refresh)
  refresh()
  return () => {
    toolbar.removeEventListener('click', press)
    toolbar.removeEventListener('mousedown', keepFocus)
  }
}
