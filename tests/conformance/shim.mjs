// Lets a client that knows only servers talk to a forward proxy.
//
// Each request's origin-form target becomes absolute-form, and its Host the target's authority. Everything else
// passes byte for byte in both directions: order and spelling of fields, bodies in whatever framing, trailers,
// pipelined requests, interim responses, half-closes and resets. The shim holds nothing back and adds nothing.

import net from 'node:net'

const CRLF2 = Buffer.from('\r\n\r\n')

/** Rewrites a stream of requests; bodies are followed only to know where the next head begins. */
export class Requests {
  #authority
  #held = Buffer.alloc(0)
  #state = 'head'
  #left = 0

  constructor (authority) {
    this.#authority = authority
  }

  /** Takes bytes from the client, returns the bytes that go to the proxy now. */
  push (bytes) {
    this.#held = this.#held.length ? Buffer.concat([this.#held, bytes]) : bytes
    const out = []
    while (this.#held.length && this.#step(out)) { /* one element of the stream for each step */ }
    return Buffer.concat(out)
  }

  #take (length) {
    const taken = this.#held.subarray(0, length)
    this.#held = this.#held.subarray(length)
    return taken
  }

  /** Whether a step was made; false means that more bytes are needed. */
  #step (out) {
    switch (this.#state) {
      case 'head': {
        const end = this.#held.indexOf(CRLF2)
        if (end < 0) return false
        out.push(this.#head(this.#take(end + 4).toString('latin1')))
        return true
      }
      case 'body':
      case 'chunk': {
        const taken = this.#take(Math.min(this.#left, this.#held.length))
        this.#left -= taken.length
        out.push(taken)
        if (this.#left === 0) this.#state = this.#state === 'chunk' ? 'size' : 'head'
        return true
      }
      case 'size':
      case 'trailers': {
        const end = this.#held.indexOf('\r\n')
        if (end < 0) return false
        const line = this.#take(end + 2)
        out.push(line)
        if (this.#state === 'trailers') {
          if (end === 0) this.#state = 'head'
          return true
        }
        const size = parseInt(line.toString('latin1'), 16)
        if (Number.isNaN(size)) this.#state = 'raw'
        else if (size === 0) this.#state = 'trailers'
        else [this.#state, this.#left] = ['chunk', size + 2]
        return true
      }
      case 'raw':
        out.push(this.#take(this.#held.length))
        return true
    }
  }

  #head (head) {
    const [line, ...fields] = head.slice(0, -4).split('\r\n')
    const [method, target, ...version] = line.split(' ')
    const value = name => fields.find(f => f.toLowerCase().startsWith(name + ':'))?.slice(name.length + 1).trim()
    const length = value('content-length')
    if (/chunked/i.test(value('transfer-encoding') ?? '')) this.#state = 'size'
    else if (length > 0) [this.#state, this.#left] = ['body', Number(length)]
    else this.#state = 'head'
    const absolute = target.startsWith('/') ? `http://${this.#authority}${target}` : target
    const named = fields.map(f => /^host:/i.test(f) ? `${f.slice(0, 5)} ${this.#authority}` : f)
    return Buffer.from([[method, absolute, ...version].join(' '), ...named].join('\r\n') + '\r\n\r\n', 'latin1')
  }
}

/** Resolves when `proxy` takes a connection, so that a run against nothing fails at once and says why. */
function reachable (proxy) {
  return new Promise((resolve, reject) => {
    const probe = net.connect(proxy, () => resolve(probe.end()))
    probe.once('error', reject)
  })
}

/** Starts the shim on a free port; resolves to the listening server. `proxy` is `{ host, port }`. */
export async function shim (proxy, authority) {
  await reachable(proxy)
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, client => {
    const upstream = net.connect({ ...proxy, allowHalfOpen: true, noDelay: true })
    const requests = new Requests(authority)
    client.on('data', bytes => {
      if (!upstream.write(requests.push(bytes))) client.pause()
    })
    upstream.on('drain', () => client.resume())
    upstream.pipe(client)
    client.on('end', () => upstream.end())
    client.on('error', () => upstream.resetAndDestroy())
    upstream.on('error', () => client.resetAndDestroy())
    upstream.on('close', () => client.end())
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve(server))
  })
}
