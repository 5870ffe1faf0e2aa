// Answers each line of standard input, a case of tests/it/oracle as JSON, with what http-cache-semantics says of it.

import CachePolicy from 'http-cache-semantics'
import { createInterface } from 'node:readline'

/** What Node keeps of several lines of one of these fields is the first; it joins those of all others. */
const single = new Set(['age', 'authorization', 'content-length', 'etag', 'expires', 'if-modified-since',
  'if-unmodified-since', 'last-modified', 'location'])

/** Fields as Node hands them to a program. */
function headers (lines) {
  const map = {}
  for (const [name, value] of lines) {
    if (name === 'set-cookie') (map[name] ??= []).push(value)
    else if (!(name in map)) map[name] = value
    else if (!single.has(name)) map[name] += `, ${value}`
  }
  return map
}

class Policy extends CachePolicy {
  now () { return Policy.moment }
}

function judge ({ request, response, asking, answer, received, now }) {
  const message = ({ headers: lines, ...rest }) => ({ url: '/x', ...rest, headers: headers([['host', 'h'], ...lines]) })
  const [stored, asked, came] = [request, asking, answer].map(message)
  Policy.moment = received
  const policy = new Policy(stored, { status: response.status, headers: headers(response.headers) })
  Policy.moment = now
  const { response: hit, revalidation } = policy.evaluateRequest(asked)
  const conditions = policy.revalidationHeaders(asked)
  const after = policy.revalidatedPolicy(asked, came)
  const outcome = after.policy === policy ? 'stale' : after.matches ? 'freshened' : 'other'
  const fields = Object.entries(after.policy._resHeaders)
  return {
    storable: policy.storable(),
    lifetime: policy.maxAge(),
    age: policy.age(),
    decision: !hit ? 'ask' : revalidation ? 'refresh' : 'serve',
    conditions: ['if-none-match', 'if-modified-since'].map(name => conditions[name] ?? null),
    outcome,
    after: {
      age: after.policy.age(),
      fields: Object.fromEntries(fields.filter(([name]) => name !== 'age').map(([name, value]) => [name, [value].flat().join(', ')]))
    }
  }
}

let told = ''
for await (const line of createInterface({ input: process.stdin })) {
  told += JSON.stringify(judge(JSON.parse(line))) + '\n'
  if (told.length > 1 << 16) {
    process.stdout.write(told)
    told = ''
  }
}
process.stdout.write(told)
