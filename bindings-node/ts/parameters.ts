// What the URL of a request says, whole URLs and bare paths alike.

/** Fresh for every caller: hooks may change it. */
export function getParameters(request?: { url?: string }): URLSearchParams {
  const url = request?.url
  if (!url) return new URLSearchParams()
  const query = url.indexOf('?')
  const hash = url.indexOf('#')
  if (query === -1 || (hash !== -1 && hash < query)) return new URLSearchParams()
  return new URLSearchParams(url.slice(query + 1, hash === -1 ? undefined : hash))
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
