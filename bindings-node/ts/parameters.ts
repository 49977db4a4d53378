// What the URL of a request says, whole URLs and bare paths alike.

interface RequestLike {
  url?: string
  headers?: Headers
}

interface Read {
  query: string
  headers: Headers | undefined
}

/** Reading a Request is dear, and hooks may be told of every update: each is read once. */
const requests = new WeakMap<RequestLike, Read>()

function read(request: RequestLike): Read {
  let found = requests.get(request)
  if (found === undefined) {
    found = { query: queryOf(request.url ?? ''), headers: request.headers }
    requests.set(request, found)
  }
  return found
}

function queryOf(url: string): string {
  const query = url.indexOf('?')
  const hash = url.indexOf('#')
  if (query === -1 || (hash !== -1 && hash < query)) return ''
  return url.slice(query + 1, hash === -1 ? undefined : hash)
}

/** Fresh for every caller: hooks may change it. */
export function getParameters(request?: RequestLike): URLSearchParams {
  const query = request ? read(request).query : ''
  return query === '' ? new URLSearchParams() : new URLSearchParams(query)
}

export function headersOf(request?: RequestLike): Headers | undefined {
  return request && read(request).headers
}

/** The document that a URL names, for clients of y-websocket. */
export function pathDocument(url: string | undefined): string | undefined {
  if (!url) return undefined
  try {
    const path = decodeURIComponent(new URL(url, 'http://localhost').pathname).replace(/^\/+/, '')
    return path === '' ? undefined : path
  } catch {
    return undefined
  }
}

/** A direct connection has no request. */
export function localRequest(): Request {
  return new Request('http://localhost')
}
