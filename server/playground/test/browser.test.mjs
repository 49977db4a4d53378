// Goal: the playground works against the real server, as a newcomer would use it.
// Method: Chromium with one context per person; every wait is for something a person can see. The server is killed
// with SIGKILL and started again on the same state directory. All requests and console messages are watched throughout.
// Environment: FIDIBUS_BIN (see process.mjs), SCREENSHOT_DIR, STORE_WAIT_MS (for a server that acknowledges before it stores).

import assert from 'node:assert/strict'
import { mkdtemp, mkdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { chromium } from 'playwright-core'
import { freePorts, startServer } from './process.mjs'

const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium'
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync']
const WAIT_MS = 15_000
const STORE_WAIT_MS = Number(process.env.STORE_WAIT_MS ?? 0)
/** What a browser writes by itself when a server is gone. */
const OUTAGE = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket connection to/

let server, browser, address, options, shots, stateDir
let outage = false
const faults = []
const hosts = new Set()

before(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'fidibus-playground-state-'))
  shots = process.env.SCREENSHOT_DIR ?? join(tmpdir(), 'fidibus-playground-shots')
  await mkdir(shots, { recursive: true })
  const [port, healthPort] = await freePorts(2)
  options = { port, healthPort, stateDir }
  address = `http://127.0.0.1:${port}/`
  server = await startServer(options)
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS })
})

after(async () => {
  await browser?.close()
  await server?.kill()
  await rm(stateDir, { recursive: true, force: true })
})

/** One person: a context of its own, watched. */
async function visit (room, settings = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...settings })
  context.setDefaultTimeout(WAIT_MS)
  context.on('page', watch)
  const page = await context.newPage()
  await page.goto(`${address}#${room}`)
  return page
}

function watch (page) {
  page.on('console', message => {
    if (!['error', 'warning'].includes(message.type())) return
    if (!(outage && OUTAGE.test(message.text()))) faults.push(message.text())
  })
  page.on('pageerror', error => faults.push(String(error)))
  page.on('request', request => { if (!request.url().startsWith('data:')) hosts.add(new URL(request.url()).host) })
  page.on('websocket', socket => hosts.add(new URL(socket.url()).host))
}

/** Takes out the faults that a test provoked on purpose, at least one. */
function forgive (pattern) {
  const others = faults.filter(text => !pattern.test(text))
  assert.ok(others.length < faults.length, `expected a message like ${pattern}`)
  faults.splice(0, faults.length, ...others)
}

const light = (page, state) => page.waitForSelector(`#light[data-state=${state}]`)
const seesText = (page, text) => page.locator('.ProseMirror').getByText(text).first().waitFor()
const shoot = (page, name) => page.screenshot({ path: join(shots, `${name}.png`) })

async function write (page, text) {
  await page.locator('.ProseMirror').click()
  await page.keyboard.press('Control+End')
  await page.keyboard.type(text)
}

/** Waits until every edit of a window is acknowledged. */
async function confirmed (page) {
  await page.waitForFunction(() => document.getElementById('light-detail').textContent.startsWith('Last edit confirmed'))
  await sleep(STORE_WAIT_MS)
}

async function drawLine (page, from, to) {
  const box = await page.locator('#board').boundingBox()
  const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height]
  await page.mouse.move(...at(from))
  await page.mouse.down()
  await page.mouse.move(...at(to), { steps: 12 })
  await page.mouse.up()
}

/** How many of the board's pixels carry ink; read from a copy, since reading a canvas back makes Chromium warn. */
const inkedPixels = page => page.locator('#board').evaluate(canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true })
  copy.drawImage(canvas, 0, 0)
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height)
  let inked = 0
  for (let i = 3; i < data.length; i += 4) if (data[i] > 0) inked += 1
  return inked
})

test('two people write, draw and see each other', async () => {
  const ada = await visit('meeting')
  const ben = await visit('meeting', { colorScheme: 'dark' })
  await Promise.all([light(ada, 'connected'), light(ben, 'connected')])
  await ada.fill('#name', 'Ada <b>')
  await ben.fill('#name', 'Ben')
  await ada.waitForSelector('#people[data-people="2"]')
  await ben.waitForSelector('#people li[aria-label="Ada <b>"]')

  await write(ada, 'Tea at four')
  await seesText(ben, 'Tea at four')
  await ben.locator('.caret .flag', { hasText: 'Ada <b>' }).waitFor()
  await write(ben, ', says Ben')
  await seesText(ada, 'Tea at four, says Ben')
  await ada.locator('.caret .flag', { hasText: 'Ben' }).waitFor()

  assert.equal(await inkedPixels(ben), 0)
  await drawLine(ada, [0.2, 0.3], [0.6, 0.5])
  await ben.waitForSelector('#board[data-strokes="1"]')
  assert.ok(await inkedPixels(ben) > 500)
  await ben.locator('.pointer .flag', { hasText: 'Ada <b>' }).waitFor()
  await shoot(ada, 'light')
  await shoot(ben, 'dark')
  await ada.click('[data-command=undo]')
  await ben.waitForSelector('#board[data-strokes="0"]')

  await ada.context().close()
  await ben.waitForSelector('#people[data-people="1"]')
  assert.equal(await ben.locator('.pointer').count(), 0)
  await ben.context().close()
})

test('one click opens a second window as a second person', async () => {
  const page = await visit('double')
  const [second] = await Promise.all([page.context().waitForEvent('page'), page.click('#second')])
  await light(second, 'connected')
  assert.equal(second.url(), page.url())
  await page.waitForSelector('#people[data-people="2"]')
  assert.notEqual(await second.evaluate(() => sessionStorage.getItem('fidibus-person')),
    await page.evaluate(() => sessionStorage.getItem('fidibus-person')))
  await page.context().close()
})

test('the address names the room', async () => {
  const page = await visit('first room')
  await light(page, 'connected')
  await write(page, 'in the first')
  await confirmed(page)
  await page.fill('#room', 'zweiter Raum/ß')
  await page.press('#room', 'Enter')
  await page.waitForFunction(() => decodeURIComponent(location.hash) === '#zweiter Raum/ß')
  await light(page, 'connected')
  assert.equal(await page.locator('.ProseMirror').innerText(), '\n')
  await page.goBack()
  await seesText(page, 'in the first')
  assert.equal(await page.inputValue('#room'), 'first room')
  await page.context().close()
})

test('the figures move', async () => {
  const page = await visit('figures', { viewport: { width: 390, height: 844 }, hasTouch: true })
  const value = figure => page.locator(`[data-figure=${figure}] strong`)
  const reaches = (figure, least) => page.waitForFunction(([name, n]) =>
    parseFloat(document.querySelector(`[data-figure=${name}] strong`).textContent) >= n, [figure, least])
  await light(page, 'connected')
  await Promise.all([reaches('documents', 1), reaches('connections', 1)])
  await page.click('[data-command=flourish]')
  await Promise.all([reaches('updates', 5), reaches('frames', 5)])
  assert.match(await value('memory').textContent(), /^\d+(\.\d+)? [MG]iB$/)
  assert.match(await page.textContent('#figures-note'), /^Running for \d/)
  await page.evaluate(() => scrollTo(0, 0))
  await page.screenshot({ path: join(shots, 'narrow.png'), fullPage: true })
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than a phone')
  await page.context().close()
})

test('a server without figures gets a page without the chart', async () => {
  const page = await visit('quiet')
  await page.route('**/figures', route => route.fulfill({ status: 404 }))
  await page.reload()
  await page.getByText('This server does not publish its figures.').waitFor()
  assert.ok(await page.locator('#figures').isHidden())
  await page.context().close()
  forgive(/status of 404/)
})

test('a killed server turns the light; the document and the edits made meanwhile survive', async () => {
  const ada = await visit('survivor')
  const ben = await visit('survivor')
  await Promise.all([light(ada, 'connected'), light(ben, 'connected')])
  await write(ada, 'before the crash')
  await drawLine(ada, [0.3, 0.3], [0.7, 0.6])
  await seesText(ben, 'before the crash')
  await confirmed(ada)

  outage = true
  await server.kill()
  await Promise.all([light(ada, 'offline'), light(ben, 'offline')])
  await write(ada, ', during it')
  await ada.waitForFunction(() => /^\d+ edits? waiting/.test(document.getElementById('light-detail').textContent))
  await shoot(ada, 'offline')
  assert.equal(await ben.getByText('during it').count(), 0)

  server = await startServer(options)
  await Promise.all([light(ada, 'connected'), light(ben, 'connected')])
  outage = false
  await seesText(ben, 'before the crash, during it')
  await write(ben, ', after it')
  await seesText(ada, 'before the crash, during it, after it')
  await confirmed(ben)
  await Promise.all([ada.context().close(), ben.context().close()])
})

test('what was confirmed is there after a kill, without any client to bring it back', async () => {
  const ada = await visit('kept')
  await light(ada, 'connected')
  await write(ada, 'kept by the server alone')
  await drawLine(ada, [0.3, 0.3], [0.7, 0.6])
  await confirmed(ada)
  outage = true
  await server.kill()
  await ada.context().close()
  server = await startServer(options)
  outage = false
  const cy = await visit('kept')
  await seesText(cy, 'kept by the server alone')
  await cy.waitForSelector('#board[data-strokes="1"]')
  await cy.context().close()
})

test('the page keeps its policy, even while styled text is pasted', async () => {
  const response = await fetch(address)
  assert.equal(response.headers.get('content-security-policy'), await readFile(new URL('../dist/csp.txt', import.meta.url), 'utf8'))
  const page = await visit('policy')
  await light(page, 'connected')
  await page.locator('.ProseMirror').click()
  await page.evaluate(() => {
    const clipboardData = new DataTransfer()
    clipboardData.setData('text/html', '<p style="color: red" onclick="alert(1)">pasted <b>bold</b><img src="https://example.com/x.png"></p>')
    document.querySelector('.ProseMirror').dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))
  })
  await page.locator('.ProseMirror strong', { hasText: 'bold' }).waitFor()
  assert.equal(await page.locator('.ProseMirror [style], .ProseMirror img').count(), 0)
  await page.context().close()
  // The browser reports that it ignored the pasted style and script: the policy at work.
  forgive(/inline (style|event handler) violates .*Security Policy/)
})

test('nothing was written to the console and no other host was asked', () => {
  assert.deepEqual(faults, [])
  assert.deepEqual([...hosts], [new URL(address).host])
})
