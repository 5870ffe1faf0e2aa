// Made by Larder from its running configuration.
var proxy = "PROXY @AT@; DIRECT";
// Hosts that are reached directly, each with its port (0: any): these and all below them, or only what is below where
// one begins with a dot.
var names = @NAMES@;
// The same for hosts that are addresses. No name server is asked.
var networks = @NETWORKS@;

function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/^\[|\]$|\.$/g, "");
  var address = bits(host), port = portOf(url), i;
  if (!address && host.indexOf(".") < 0) return "DIRECT";
  for (i = 0; i < names.length; i++)
    if ((!names[i][1] || names[i][1] === port) && isNamed(host, names[i][0])) return "DIRECT";
  for (i = 0; i < networks.length; i++)
    if ((!networks[i][1] || networks[i][1] === port) && isWithin(address, networks[i][0])) return "DIRECT";
  return proxy;
}

function isNamed(host, name) {
  var below = name.charAt(0) === "." ? name : "." + name;
  return name === "*" || host === name || host.slice(-below.length) === below;
}

function isWithin(address, network) {
  var parts = network.split("/");
  return address !== "" && address.indexOf(bits(parts[0]).slice(0, 1 + Number(parts[1]))) === 0;
}

// An address as its family and its bits; empty for a name.
function bits(host) {
  var out = "4", parts = host.split("."), i;
  if (/^\d+\.\d+\.\d+\.\d+$/.test(host)) {
    for (i = 0; i < 4; i++) out += (256 + Number(parts[i])).toString(2).slice(1);
    return out;
  }
  if (host.indexOf(":") < 0) return "";
  var halves = host.split("::"), groups = halves[0] ? halves[0].split(":") : [];
  var tail = halves[1] ? halves[1].split(":") : [];
  while (groups.length + tail.length < 8) groups.push("0");
  groups = groups.concat(tail);
  for (out = "6", i = 0; i < 8; i++) out += (65536 + parseInt(groups[i], 16)).toString(2).slice(1);
  return out;
}

function portOf(url) {
  var port = /^[a-z]+:\/\/[^\/]*:(\d+)(\/|$)/i.exec(url);
  return port ? Number(port[1]) : /^(https|wss):/i.test(url) ? 443 : /^ftp:/i.test(url) ? 21 : 80;
}
