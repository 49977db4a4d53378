// A server as a process of its own, by TARGET, with extension-redis: for tests of both packages side by side. PORT_REDIS.

import { hocuspocus } from './target.mjs'
import { Redis } from '@hocuspocus/extension-redis'

const server = new hocuspocus.Server({
  quiet: true,
  stopOnSignals: false,
  address: '127.0.0.1',
  port: 0,
  extensions: [new Redis({ host: '127.0.0.1', port: Number(process.env.PORT_REDIS), disconnectDelay: 50 })],
})
await server.listen()
console.log(JSON.stringify({ port: server.address.port }))
