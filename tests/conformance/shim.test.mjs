// The shim must not change a result: what it rewrites, and that nothing else is touched. `node --test`.

import assert from 'node:assert/strict'
import test from 'node:test'
import { Requests } from './shim.mjs'

const sent = [
  ['GET /a?x=%zz HTTP/1.1\r\nhOsT: here\r\nX: 1\r\nx:  2\r\n\r\n', 'GET http://o:1/a?x=%zz HTTP/1.1\r\nhOsT: o:1\r\nX: 1\r\nx:  2\r\n\r\n'],
  ['PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /', 'PUT http://o:1/b HTTP/1.1\r\nHost: o:1\r\nContent-Length: 5\r\n\r\nGET /'],
  ['POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nGET /\r\n0\r\nHost: trailer\r\n\r\n',
    'POST http://o:1/c HTTP/1.1\r\nHost: o:1\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nGET /\r\n0\r\nHost: trailer\r\n\r\n'],
  ['OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n', 'OPTIONS * HTTP/1.1\r\nHost: o:1\r\n\r\n'],
  ['GET /d HTTP/1.1\r\nHost: h\r\n\r\n', 'GET http://o:1/d HTTP/1.1\r\nHost: o:1\r\n\r\n']
]
const input = Buffer.from(sent.map(s => s[0]).join(''))
const expected = sent.map(s => s[1]).join('')

test('pipelined requests are rewritten one by one', () => {
  assert.equal(new Requests('o:1').push(input).toString(), expected)
})

test('wherever the stream is split, the same bytes come out', () => {
  for (let at = 0; at <= input.length; at++) {
    const requests = new Requests('o:1')
    const out = Buffer.concat([requests.push(input.subarray(0, at)), requests.push(input.subarray(at))])
    assert.equal(out.toString(), expected, `split at ${at}`)
  }
})

test('obs-text in a field keeps its bytes', () => {
  const head = Buffer.from('GET / HTTP/1.1\r\nHost: h\r\nX: \xe9\xff\r\n\r\n', 'latin1')
  assert.ok(new Requests('o:1').push(head).includes(Buffer.from([0xe9, 0xff])))
})
