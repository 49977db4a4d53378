// The package as CommonJS.

const { Server } = require('../dist/index.cjs')

import('./smoke.shared.mjs').then(({ smoke }) => smoke(Server, 'CommonJS'))
