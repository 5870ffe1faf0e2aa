'use strict'
// The page's script. It asks the API of the listener it came from, and puts what it is told into text nodes: nothing
// from outside is ever read as markup.

const EVERY = 1000 // milliseconds between two looks
const WINDOW = 10 // looks over which rates are told
const SHOWN = 200 // exchanges in the table
const PAGE = 50 // stored responses on a page
const FROM_CACHE = ['hit', 'stale', 'revalidated', 'collapsed']
const FROM_ORIGIN = ['miss', 'bypass']
const RESULTS = ['hit', 'stale', 'revalidated', 'collapsed', 'miss', 'bypass', 'tunnel', 'error', 'denied', 'invalid', 'local']

const $ = id => document.getElementById(id)

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children.filter(child => child !== null && child !== undefined))
  return made
}

function cell(content, className, label) {
  const made = element('td', { className: className ?? '' }, content)
  if (label) made.dataset.label = label
  return made
}

function state(id, text, kind = '') {
  $(id).textContent = text
  $(id).className = `state ${kind}`.trim()
}

// Asking. A problem is told in the API's own words.

let token = sessionStorage.getItem('larder-token')
let locked = false // until a token is given

class Problem extends Error {
  constructor(status, told) {
    super(told.detail ?? `the answer was ${status}`)
    this.status = status
    this.errors = told.errors ?? []
  }
}

async function ask(path, { content, text } = {}) {
  const headers = {}
  if (token) headers.Authorization = `Bearer ${token}`
  if (content) headers['Content-Type'] = 'application/json'
  if (text) headers.Accept = 'text/plain'
  const method = content ? 'POST' : 'GET'
  const body = content ? JSON.stringify(content) : undefined
  let response
  try {
    response = await fetch(path, { method, headers, body, cache: 'no-store' })
  } catch {
    throw new Problem(0, { detail: 'The proxy does not answer. It may have ended; this page goes on trying.' })
  }
  if (!response.ok) {
    const problem = new Problem(response.status, await response.json().catch(() => ({})))
    if (response.status === 401) lock()
    throw problem
  }
  return text ? response.text() : response.json()
}

function lock() {
  if (!locked && token) state('token-state', 'This token is not the one that is configured.', 'bad')
  locked = true
  token = null
  sessionStorage.removeItem('larder-token')
  $('token').hidden = false
}

$('token').addEventListener('submit', event => {
  event.preventDefault()
  const given = $('token-value').value.trim()
  // Nothing else fits into a field of a request.
  if (!/^[\x20-\x7e]+$/.test(given)) return state('token-state', 'This is no token: it has characters that none can have.', 'bad')
  token = given
  sessionStorage.setItem('larder-token', token)
  $('token-value').value = ''
  $('token').hidden = true
  state('token-state', '')
  locked = false
  forget()
  show()
})

// Figures as people read them.

function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit++ }
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`
}

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 120) return `${whole} s`
  if (whole < 7200) return `${Math.round(whole / 60)} min`
  if (whole < 172800) return `${Math.round(whole / 3600)} h`
  return `${Math.round(whole / 86400)} d`
}

function time(micros) {
  return micros < 1000 ? `${Math.round(micros)} µs` : micros < 1e6 ? `${(micros / 1000).toFixed(1)} ms` : `${(micros / 1e6).toFixed(1)} s`
}

const number = count => count.toLocaleString('en')
const sum = (of, names) => names.reduce((total, name) => total + (of[name] ?? 0), 0)

// Where the share of all counts lies, in microseconds: the upper end of its bucket.
function quantile(counts, bounds, share) {
  const total = counts.reduce((a, b) => a + b, 0)
  let seen = 0
  for (let i = 0; i < counts.length; i++) {
    seen += counts[i]
    if (total > 0 && seen >= share * total) return bounds[i] ?? Infinity
  }
  return null
}

// The tiles.

const looks = []
const rates = []

function figures(stats) {
  const { requests, store } = stats
  const now = { at: performance.now(), requests, start: stats.process.start_seconds }
  // A restart counts from the beginning.
  if (looks.length && looks[0].start !== now.start) { looks.length = 0; forget() }
  looks.push(now)
  if (looks.length > WINDOW + 1) looks.shift()
  const before = looks[0]
  const seconds = (now.at - before.at) / 1000
  const fromStore = of => sum(of.by_result, FROM_CACHE)
  const answered = of => fromStore(of) + sum(of.by_result, FROM_ORIGIN)
  const saved = sum(requests.bytes_out, FROM_CACHE)
  const ratio = (hits, all) => all > 0 ? `${Math.round(100 * hits / all)} %` : '–'
  $('ratio-all').textContent = answered(requests) ? `${ratio(fromStore(requests), answered(requests))} since the start` : ''
  $('saved').textContent = bytes(saved)
  $('held').textContent = number(store.entries)
  $('held-of').textContent = `${bytes(store.bytes)} of ${bytes(store.capacity)}`
  const up = now.start ? `, up ${span(Date.now() / 1000 - now.start)}` : ''
  $('status').textContent = `${stats.version}, ${stats.ready ? 'ready' : 'not ready: it starts or drains'}${up}`
  $('status').className = ''
  if (seconds <= 0) return
  const rate = (requests.total - before.requests.total) / seconds
  const since = counts => counts.map((count, i) => count - before.requests.first_byte.counts[i])
  const last = looks[looks.length - 2]
  rates.push((requests.total - last.requests.total) * 1000 / (now.at - last.at))
  if (rates.length > 60) rates.shift()
  $('rate').textContent = rate < 10 ? rate.toFixed(1) : number(Math.round(rate))
  const top = Math.max(1, ...rates)
  const points = rates.map((value, i) => `${60 - rates.length + i},${19 - 18 * value / top}`)
  $('rate-line').firstElementChild.setAttribute('points', points.join(' '))
  $('ratio').textContent = ratio(fromStore(requests) - fromStore(before.requests), answered(requests) - answered(before.requests))
  $('saved-rate').textContent = `${bytes((saved - sum(before.requests.bytes_out, FROM_CACHE)) / seconds)} a second`
  const { bounds_us: bounds, counts } = requests.first_byte
  const [half, most] = [0.5, 0.99].map(share => quantile(since(counts), bounds, share))
  const upTo = micros => micros === Infinity ? '> 10 min' : `≤ ${time(micros)}`
  $('latency').textContent = half === null ? '–' : upTo(half)
  $('latency-99').textContent = most === null ? `no request in ${WINDOW} s` : `99 % ${upTo(most)}`
}

// Exchanges, as they happen.

let after = 0
const kept = []

// Their numbers begin anew.
function forget() {
  after = 0
  kept.length = 0
  $('exchange-rows').replaceChildren()
}

for (const result of RESULTS) $('exchange-result').append(element('option', { value: result }, result))

async function exchanges() {
  const told = await ask(`/api/v1/exchanges?after=${after}`)
  if (told.next < after) return forget()
  const fresh = told.exchanges
  after = told.next
  if (fresh.length) {
    kept.unshift(...fresh.reverse())
    kept.length = Math.min(kept.length, 2000)
  }
  list()
  $('exchange-caption').textContent = `The last exchanges, the newest first; of one second at most ${told.per_second} hits and ${told.per_second} others`
}

function list() {
  const words = $('exchange-filter').value.toLowerCase().split(' ').filter(word => word)
  const result = $('exchange-result').value
  const fits = x => (!result || x.result === result) &&
    words.every(word => `${x.url} ${x.client} ${x.method} ${x.status} ${x.result} ${x.reason ?? ''} ${x.error ?? ''} ${x.rule ?? ''}`.toLowerCase().includes(word))
  const shown = kept.filter(fits).slice(0, SHOWN)
  // A row that stays is not drawn anew: it may have the focus, or be just about to be clicked.
  const rows = $('exchange-rows')
  const wanted = new Set(shown.map(x => String(x.seq)))
  const there = new Map()
  for (const one of [...rows.children]) {
    if (wanted.has(one.dataset.row)) there.set(one.dataset.row, one)
    else one.remove()
  }
  let at = rows.firstChild
  for (const x of shown) {
    if (there.get(String(x.seq)) === at && at) at = at.nextSibling
    else rows.insertBefore(row(x), at)
  }
  const none = kept.length ? 'None of the last exchanges fits.' : 'No exchange yet. Send a request through the proxy, and it appears here.'
  state('exchange-state', shown.length ? '' : none)
}

function row(x) {
  // What is no HTTP has neither.
  const unread = x.url === '-'
  const open = element('button', { className: 'url', type: 'button' }, unread ? 'what could not be read' : x.url)
  open.addEventListener('click', () => decide({ exchange: x, from: open }))
  const at = element('time', { dateTime: x.time }, new Date(x.time).toLocaleTimeString('en-GB'))
  const reason = [x.reason, x.error, x.rule, x.complete === false ? 'incomplete' : null].filter(word => word).join(', ')
  const made = element('tr', {},
    cell(at, 't'),
    cell(element('span', { className: `tag ${RESULTS.includes(x.result) ? x.result : ''}` }, x.result)),
    cell(x.status ?? 'none'),
    cell(element('span', {}, unread ? null : element('span', { className: 'method' }, x.method), open), 'main'),
    cell(bytes(x.bytes_out), 'n'),
    cell(x.duration_ms < 10 ? x.duration_ms.toFixed(2) : number(Math.round(x.duration_ms)), 'n', 'ms'),
    cell(reason, 'reason'))
  made.dataset.row = x.seq
  return made
}

for (const id of ['exchange-filter', 'exchange-result']) $(id).addEventListener('input', list)
// Their fields act as they are typed in.
for (const id of ['exchange-form', 'config-form']) $(id).addEventListener('submit', event => event.preventDefault())

// The decision on one exchange or stored response, as `larder explain` tells it.

let decided = null
let turns = 0 // answers to earlier questions come too late

function decide({ exchange, url, from }) {
  decided = { exchange, url: url ?? exchange.url, from }
  $('decision-url').textContent = decided.url
  $('decision-facts').textContent = exchange
    ? `${exchange.method} by ${exchange.client}: ${exchange.result}${exchange.reason ? `, ${exchange.reason}` : ''}${exchange.upstream ? `, from ${exchange.upstream}` : ''}; exchange ${exchange.id}`
    : ''
  $('decision-field').value = ''
  $('decision-purge').hidden = !decided.url.includes('://')
  $('decision-as').textContent = `As a ${exchange?.method ?? 'GET'} with the field`
  if (!$('decision').open) $('decision').showModal()
  explain()
}

// From what is stored; only who asks for it makes the origin answer: a link may count how often it is followed.
async function explain(offline = true) {
  const { exchange, url } = decided
  const turn = ++turns
  const text = told => {
    if (turn !== turns) return
    $('decision-text').textContent = told
    $('decision-ask').hidden = !told.endsWith('\norigin: not asked\n')
  }
  const plain = exchange && !['GET', 'HEAD'].includes(exchange.method)
  $('decision-form').hidden = Boolean(plain)
  if (plain) return text('The cache answers GET and HEAD. What was done with this one is told above.')
  if (!exchange && url.endsWith('?...')) return text('Its query is not shown (log.query), so it cannot be asked for here. larder explain takes the whole URL.')
  text('Loading…')
  const field = $('decision-field').value.trim()
  const of = exchange ? `exchange=${exchange.seq}` : `url=${encodeURIComponent(url)}`
  try {
    text(await ask(`/api/v1/explain?${of}&offline=${offline}${field ? `&header=${encodeURIComponent(field)}` : ''}`, { text: true }))
  } catch (problem) {
    text(`It could not be explained: ${problem.message}`)
  }
}

$('decision-form').addEventListener('submit', event => { event.preventDefault(); explain() })
$('decision-ask').addEventListener('click', () => { $('decision-text').focus(); explain(false) })
$('decision').addEventListener('close', () => { if (decided.from?.isConnected) decided.from.focus({ preventScroll: true }) })
$('decision-close').addEventListener('click', () => $('decision').close())
$('decision-purge').addEventListener('click', () => { $('decision').close(); offer(decided.url) })

// What is stored.

let offset = 0
let looksAtStore = 0 // what an earlier one is answered comes too late

async function stored() {
  const [sort, search] = [$('stored-sort').value, encodeURIComponent($('stored-search').value)]
  const look = ++looksAtStore
  state('stored-state', $('stored-rows').firstChild ? '' : 'Loading…')
  try {
    const told = await ask(sort === 'sites'
      ? `/api/v1/sites?search=${search}&limit=500`
      : `/api/v1/stored?search=${search}&sort=${sort.replace('-', '')}&reverse=${sort[0] === '-'}&offset=${offset}&limit=${PAGE}`)
    if (look !== looksAtStore) return
    if (sort === 'sites') sites(told)
    else await responses(told)
  } catch (problem) {
    if (look !== looksAtStore) return
    table([], [])
    state('stored-state', problem.message, 'bad')
  }
}

function table(heads, rows) {
  const head = heads.map(([name, className]) => element('th', { scope: 'col', className: className ?? '' }, name))
  $('stored-head').replaceChildren(element('tr', {}, ...head))
  $('stored-rows').replaceChildren(...rows)
}

const nothing = () => $('stored-search').value ? 'Nothing that is stored fits.' : 'Nothing is stored yet.'

function responses(told) {
  // What is on this page has gone meanwhile.
  if (offset > 0 && offset >= told.found) {
    offset = Math.max(0, Math.ceil(told.found / PAGE) - 1) * PAGE
    return stored()
  }
  table([['URL'], ['Bytes', 'n'], ['Stored', 'n'], ['Fresh'], ['Status'], ['Type'], ['']], told.responses.map(one => {
    const open = element('button', { className: 'url', type: 'button' }, one.url)
    open.addEventListener('click', () => decide({ url: one.url, from: open }))
    const tags = one.tags.length ? element('span', { className: 'quiet' }, ` ${one.tags.join(' ')}`) : null
    return element('tr', {},
      cell(element('span', {}, open, tags), 'main'),
      cell(bytes(one.bytes), 'n'),
      cell(`${span(one.stored_ago_s)} ago`, 'n', 'stored'),
      cell(element('span', { className: one.fresh ? 'left hit' : 'left stale' }, one.fresh ? `${span(one.ttl_s)} left` : one.ttl_s < 0 ? `${span(-one.ttl_s)} past` : 'to be validated'), ''),
      cell(`${one.status}${one.complete ? '' : ', partial'}`),
      cell(one.content_type ?? ''),
      cell(purger(`Purge ${one.url}`, () => offer(one.url)), 'n'))
  }))
  const { found, responses: { length } } = told
  $('stored-caption').textContent = found ? `${number(offset + 1)} to ${number(offset + length)} of ${number(found)} stored responses, ${bytes(told.bytes)} with their overhead` : ''
  state('stored-state', length ? '' : nothing())
  $('stored-back').hidden = offset === 0
  // The API goes no further: a search does.
  $('stored-on').hidden = offset + length >= found || offset + PAGE > 5000
}

function sites(told) {
  table([['Site'], ['Responses', 'n'], ['Bytes', 'n'], ['']], told.sites.map(one => {
    const open = element('button', { className: 'url', type: 'button' }, one.host)
    open.addEventListener('click', () => { $('stored-search').value = one.host; $('stored-sort').value = 'size'; offset = 0; stored() })
    return element('tr', {}, cell(open, 'main'), cell(number(one.responses), 'n', 'responses'), cell(bytes(one.bytes), 'n'),
      cell(purger(`Purge ${one.host}`, () => offer(one.host, 'host')), 'n'))
  }))
  const others = told.others.responses ? `; ${number(told.others.responses)} responses of others` : ''
  $('stored-caption').textContent = told.found ? `${number(told.found)} sites, the largest first${others}` : ''
  state('stored-state', told.sites.length ? '' : nothing())
  $('stored-back').hidden = $('stored-on').hidden = true
}

function purger(label, action) {
  const made = element('button', { className: 'small', type: 'button', ariaLabel: label }, 'Purge…')
  made.addEventListener('click', action)
  return made
}

$('stored-form').addEventListener('submit', event => { event.preventDefault(); offset = 0; stored() })
$('stored-sort').addEventListener('change', () => { offset = 0; stored() })
$('stored-back').addEventListener('click', () => { offset = Math.max(0, offset - PAGE); stored() })
$('stored-on').addEventListener('click', () => { offset += PAGE; stored() })

// Purging: counted first, always.

let counted = null

function offer(value, kind = 'url') {
  // Where the query is hidden, all queries of the path are meant.
  const hidden = kind === 'url' && value.endsWith('?...')
  $('purge-kind').value = hidden ? 'path' : kind
  $('purge-value').value = hidden ? value.slice(0, -'?...'.length) : value
  reconsider()
  go('#purge')
  $('purge-value').focus()
}

function reconsider() {
  counted = null
  const all = $('purge-kind').value === 'all'
  $('purge-label').hidden = all
  $('purge-value').required = !all
  $('purge-now').hidden = true
  state('purge-state', 'Count what would go; then it can be purged.')
}

async function purge(dry) {
  const kind = $('purge-kind').value
  const content = dry ? { [kind]: kind === 'all' ? true : $('purge-value').value } : counted
  $('purge-now').hidden = true
  state('purge-state', dry ? 'Counting…' : 'Purging…')
  try {
    const told = await ask('/api/v1/purge', { content: { ...content, dry_run: dry } })
    const what = `${number(told.purged)} stored ${told.purged === 1 ? 'response' : 'responses'}`
    state('purge-state', `${what} ${told.dry_run ? 'would be purged.' : told.purged === 1 ? 'was purged.' : 'were purged.'}`, told.dry_run ? '' : 'good')
    counted = dry && told.purged > 0 ? content : null
    $('purge-now').hidden = !counted
    $('purge-now').textContent = `Purge ${what}`
    if (counted) $('purge-now').focus()
  } catch (problem) {
    counted = null
    state('purge-state', problem.message, 'bad')
  }
}

$('purge-form').addEventListener('submit', event => { event.preventDefault(); purge(true) })
$('purge-now').addEventListener('click', () => { if (counted) purge(false) })
$('purge-kind').addEventListener('input', reconsider)
$('purge-value').addEventListener('input', reconsider)

// The configuration that runs.

let running = null

async function configuration() {
  try {
    running = await ask('/api/v1/config')
    settings()
    reloaded()
  } catch (problem) {
    state('config-state', problem.message, 'bad')
  }
}

const literal = value => value === null ? 'none' : typeof value === 'string' ? value : Array.isArray(value) ? `[${value.map(literal).join(', ')}]` : JSON.stringify(value)
function settings() {
  const filter = $('config-filter').value.toLowerCase()
  const only = $('config-changed').checked
  const rows = running.settings.filter(one => one.key.includes(filter) && !(only && one.is_default)).map(one =>
    element('tr', { title: one.says },
      cell(element('span', { className: one.is_default ? 'key' : 'key set' }, one.key), 'main'),
      cell(literal(one.value), 'key'), cell(one.default, 'key t', 'default'), cell(one.changes, 't')))
  $('config-rows').replaceChildren(...rows)
  state('config-state', rows.length ? '' : 'No key fits.')
  $('config-rules').textContent = running.rules.length ? JSON.stringify(running.rules, null, 2) : 'There are none.'
}

function reloaded() {
  const { last_reload: last, file } = running
  const of = file ? `Read from ${file}. ` : 'There is no file: these are the built-in defaults and the flags. '
  let told = 'It was not reloaded since the start.'
  if (last) {
    const at = new Date(last.at * 1000).toLocaleString('en-GB')
    const changed = [last.live.length ? `changed: ${last.live.join(', ')}` : null, last.restart.length ? `at the next start: ${last.restart.join(', ')}` : null].filter(part => part)
    told = `Last reload ${at}: ${!last.done ? 'refused, the running configuration stays' : changed.length ? changed.join('; ') : 'nothing changed'}.`
  }
  $('reload-told').textContent = of + told
  $('reload-errors').replaceChildren(...(last?.errors ?? []).map(error => element('li', {}, error)))
}

$('reload-form').addEventListener('submit', async event => {
  event.preventDefault()
  $('reload-told').textContent = 'Reloading…'
  try {
    await ask('/api/v1/reload', { content: {} })
  } catch (problem) {
    // What is refused is told with the configuration; the rest is told here.
    if (problem.status !== 422) state('config-state', problem.message, 'bad')
  }
  configuration()
})
for (const id of ['config-filter', 'config-changed']) $(id).addEventListener('input', () => { if (running) settings() })

// Which view, and the clock.

const VIEWS = ['exchanges', 'stored', 'purge', 'configuration']

const view = () => VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : VIEWS[0]

function show() {
  for (const name of VIEWS) $(name).hidden = name !== view()
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#${view()}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  if (view() === 'stored') stored()
  if (view() === 'configuration') configuration()
}

async function look() {
  if (!document.hidden) {
    try {
      figures(await ask('/api/v1/stats'))
    } catch (problem) {
      $('status').textContent = problem.message
      $('status').className = 'bad'
    }
    if (view() === 'exchanges' && !$('exchange-pause').checked && !locked) {
      try {
        await exchanges()
      } catch (problem) {
        state('exchange-state', problem.message, 'bad')
      }
    }
  }
  setTimeout(look, EVERY)
}

// Without going to the element of that name: the figures stay in view.
function go(hash) {
  if (location.hash !== hash) history.pushState(null, '', hash)
  show()
}

for (const link of document.querySelectorAll('nav a')) link.addEventListener('click', event => { event.preventDefault(); go(link.hash) })
addEventListener('popstate', show)
show()
look()
