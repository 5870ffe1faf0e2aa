// Node's fetch through a proxy: node get.mjs PROXY URL. Prints the response as head and body.
// A ProxyAgent tunnels even plain http unless it is told not to.

import { ProxyAgent, setGlobalDispatcher } from 'undici'

const [proxy, url] = process.argv.slice(2)
setGlobalDispatcher(new ProxyAgent({ uri: proxy, proxyTunnel: false }))
const response = await fetch(url)
let head = `HTTP/1.1 ${response.status}\n`
for (const [name, value] of response.headers) head += `${name}: ${value}\n`
process.stdout.write(head + '\n' + await response.text())
