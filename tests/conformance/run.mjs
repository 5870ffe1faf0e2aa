// Runs the public HTTP cache test suite through the proxy and compares the results with expected.json.
//
//   node run.mjs [--larder FILE]      the binary to test; default target/release/larder
//                [--suite DIR]        a checkout of the suite instead of the pinned package
//                [--proxy HOST:PORT]  a proxy that runs already, instead of starting one
//                [--json FILE]        writes the suite's raw results there
//                [CASE ...]           tells each of these cases' result in full
//
// The suite's client speaks to a server, so shim.mjs stands between it and the proxy. A case counts as passed
// only when those it depends on passed too, as the suite itself counts. Required and optimal cases are scored;
// a check has no right answer and is only counted. Any difference from expected.json, in either direction, is
// a failure. Exit: 0 as expected, 1 a difference, 2 the run itself failed.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { shim } from './shim.mjs'

const here = path.dirname(fileURLToPath(import.meta.url))
const pinned = path.join(here, 'node_modules/http-cache-tests')
const { values: flags, positionals: cases } = parseArgs({
  allowPositionals: true,
  options: {
    larder: { type: 'string', default: path.join(here, '../../target/release/larder') },
    suite: { type: 'string', default: pinned },
    proxy: { type: 'string' },
    json: { type: 'string' }
  }
})

const children = []
process.on('exit', () => children.forEach(child => child.kill()))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(2))

/** Starts a program and resolves to what `pattern` captured in its output. It ends when this process does. */
function start (command, args, options, pattern) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    children.push(child)
    let told = ''
    const listen = bytes => {
      told += bytes
      const match = pattern.exec(told)
      if (match) resolve(match.slice(1))
    }
    child.stdout.on('data', listen)
    child.stderr.on('data', listen)
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`${command} ended with ${code}:\n${told}`)))
  })
}

/** Runs a program to its end and resolves to its standard output. */
function output (command, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    const parts = []
    child.stdout.on('data', part => parts.push(part))
    child.once('error', reject)
    child.once('close', code => {
      if (code === 0) resolve(Buffer.concat(parts).toString())
      else reject(new Error(`${command} ${args.join(' ')} ended with ${code}`))
    })
  })
}

/** Where the programs of this layout of the suite are: the released package, or its development head. */
function layout (suite) {
  const engine = existsSync(path.join(suite, 'test-engine')) ? 'test-engine/' : ''
  return { server: `${engine}server/server.mjs`, cli: `${engine}cli.mjs`, index: 'tests/index.mjs' }
}

async function results (suite, files, scratch) {
  const env = { ...process.env, npm_config_protocol: 'http', npm_config_pidfile: path.join(scratch, 'pid') }
  // The suite reads each setting from one of two variables; an empty id means all cases.
  Object.assign(env, { npm_config_port: '0', npm_config_id: '', npm_package_config_id: '' })
  const [origin] = await start('node', [files.server], { cwd: suite, env }, /Listening on \S*:(\d+)\//)
  let proxy = flags.proxy
  if (!proxy) {
    const args = ['--config', path.join(here, 'larder.toml'), '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0']
    ;[proxy] = await start(flags.larder, args, { env: process.env }, /proxy listening on (\S+)/)
  }
  const split = proxy.lastIndexOf(':')
  const server = await shim({ host: proxy.slice(0, split), port: Number(proxy.slice(split + 1)) }, `127.0.0.1:${origin}`)
  env.npm_config_base = `http://127.0.0.1:${server.address().port}`
  const told = await output('node', ['--no-warnings', files.cli], { cwd: suite, env })
  return JSON.parse(told.slice(told.indexOf('{\n')))
}

function score (suites, results, expected) {
  const all = new Map(suites.flatMap(s => s.tests).filter(t => !t.browser_only).map(t => [t.id, t]))
  const known = new Map()
  const passed = id => {
    if (!known.has(id)) {
      known.set(id, false) // a circle of dependencies does not pass
      known.set(id, results[id] === true && (all.get(id)?.depends_on ?? []).every(passed))
    }
    return known.get(id)
  }
  const misses = new Map(expected.map(m => [m.id, m.why]))
  const counts = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
  const differences = []
  for (const [id, { kind = 'required', depends_on: on = [] }] of all) {
    counts[kind][1]++
    if (passed(id)) counts[kind][0]++
    if (kind === 'check') continue
    if (!passed(id) && !misses.has(id)) {
      const failed = on.filter(d => !passed(d))
      const why = failed.length ? `depends on ${failed.join(', ')}` : results[id]?.join(': ') ?? 'has no result'
      differences.push(`${id} (${kind}) failed: ${why}`)
    }
    if (passed(id) && misses.has(id)) differences.push(`${id} (${kind}) passed, but expected.json lists it as a miss`)
  }
  for (const id of misses.keys()) {
    if (!all.has(id)) differences.push(`${id} is listed in expected.json, but the suite has no such case`)
  }
  return { counts, differences, misses: misses.size, passed }
}

const scratch = mkdtempSync(path.join(os.tmpdir(), 'larder-conformance-'))
try {
  const suite = path.resolve(flags.suite)
  const files = layout(suite)
  const { default: suites } = await import(pathToFileURL(path.join(suite, files.index)))
  const { misses: always, released } = JSON.parse(readFileSync(path.join(here, 'expected.json')))
  const expected = suite === path.resolve(pinned) ? [...always, ...released] : always
  const got = await results(suite, files, scratch)
  if (flags.json) writeFileSync(flags.json, JSON.stringify(got, null, 2) + '\n')
  const { counts, differences, misses, passed } = score(suites, got, expected)
  for (const id of cases) console.log(`${id}: ${passed(id) ? 'passed' : JSON.stringify(got[id])}`)
  const of = kind => `${counts[kind][0]} of ${counts[kind][1]}`
  console.log(`conformance: required ${of('required')}, optimal ${of('optimal')}, checks answered yes ${of('check')}; ${misses} known misses`)
  for (const line of differences) console.log(`conformance: DIFFERENT: ${line}`)
  process.exitCode = differences.length ? 1 : 0
} catch (error) {
  console.error(`conformance: the run failed: ${error.message}`)
  process.exitCode = 2
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
process.exit()
