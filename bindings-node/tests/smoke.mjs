// The package as ESM, on any Node: two clients by hand, without a WebSocket of Node's own.

import { smoke } from './smoke.shared.mjs'
import { Server } from '../dist/index.js'

await smoke(Server, 'ESM')
