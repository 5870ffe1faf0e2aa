"""The proxies and their configurations, the origin, the load, and one method for each scenario."""

import contextlib
import functools
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import resource
import signal
import shutil
import socket
import statistics
import subprocess
import sys
import time

from clients import Wrong, answer, connected, paced

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TICK = os.sysconf("SC_CLK_TCK")
SIZES = {"1k": 1 << 10, "64k": 64 << 10, "10m": 10 << 20, "1g": 1 << 30}
# Bytes of cache for each peer.
MEMORY = 4 << 30
# What each asks: enough that no core waits for a request.
CONNECTIONS = 64
STORED, IDLE = 100_000, 2_000
# At the same moment for one URL; a second; one after the other.
TOGETHER, RATE, STARTS = 500, 10_000, 10
# Without its access log.
SILENT = '\n[log]\naccess = "off"\n'
# Where nginx would write outside of its folder.
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

# What is only measured when it is asked for.
SELDOM = ("larder-log", "larder-trained")
TRAINED = ROOT / "target/trained/larder"
# name: the command, what prints its version, and whether it is a proxy of one origin only, by that origin's paths.
LARDER = "@BINARY@ --config @CONFIG@ --listen 127.0.0.1:@PORT@ --admin-listen @ADMIN@ --memory @MEMORY@"
PEERS = {
    "larder": (LARDER, "@BINARY@ --version", False),
    # With its access log, which the others do not write here.
    "larder-log": (LARDER, "@BINARY@ --version", False),
    # As release/trained makes it.
    "larder-trained": (LARDER.replace("@BINARY@", str(TRAINED)), f"{TRAINED} --version", False),
    "nginx": ("nginx -e @DIR@/log -c @DIR@/nginx.conf", "nginx -v", True),
    "ats": ("traffic_server --run-root=@DIR@/runroot.yaml", "traffic_server -V", False),
    "squid": ("squid -N -f @DIR@/squid.conf", "squid -v", False),
    "varnish": ("varnishd -F -j none -n @DIR@/work -a 127.0.0.1:@PORT@ -f @DIR@/varnish.vcl -s malloc,@MEMORY@ -T none "
                "-p thread_pools=1 -p thread_pool_max=4000 -p timeout_idle=3600", "varnishd -V", True),
    "haproxy": ("haproxy -db -f @DIR@/haproxy.cfg", "haproxy -v", True),
}

# name: the method, what is measured, its unit, and who is left out: what they do not do, or not so that it compares.
REVERSE = ("nginx", "varnish", "haproxy")
SCENARIOS = {
    "hit-1k": ("hit_1k", "a hit of 1 KiB", "µs", ()),
    "hit-own": ("hit_own", "a hit of 1 KiB, each in words of its own", "µs", ()),
    "hit-64k": ("hit_64k", "a hit of 64 KiB", "µs", ()),
    "hit-10m": ("hit_10m", "hits of 10 MiB", "s/GB", ()),
    # HAProxy's 304 has a Content-Length, as it may, and wrk waits for what that announces.
    "cond": ("condition", "If-None-Match, 304 from the cache", "µs", ("haproxy",)),
    "pass": ("not_stored", "no-store, each URL new", "µs", ()),
    "fill": ("new", "cacheable, each URL new", "µs", ()),
    # They store nothing that is stale at once.
    "reval": ("validated", "stale at once, the origin says 304", "µs", REVERSE),
    "tunnel": ("tunnelled", "CONNECT, bodies of 10 MiB", "s/GB", REVERSE),
    "connect": ("tunnels", "CONNECT, 1 KiB, close", "µs", REVERSE),
    "churn": ("connections", "a hit of 1 KiB, each on a new connection", "µs", ()),
    "zipf": ("popular", f"a hit of 1 KiB among {STORED:,} by Zipf's law", "µs", ()),
    "lat": ("waits", f"99 % of hits wait less, at {RATE:,} a second", "ms", ()),
    # HAProxy lets each request go to the origin.
    "collapse": ("collapsed", f"{TOGETHER} ask for one new URL, the origin takes 200 ms", "ms", ("haproxy",)),
    "asked": ("asked_for", "the same, what the origin is asked", "requests", ("haproxy",)),
    # HAProxy makes room for all the connections first that it is allowed here.
    "start": ("started", "from its start until it listens", "ms", ("haproxy",)),
    # HAProxy takes its whole cache at the start.
    "memory": ("stored_memory", "memory for a stored KiB beyond it", "bytes", ("haproxy",)),
    "idle": ("idle_memory", "memory for an idle connection", "bytes", ()),
    # Traffic Server alone stores it, in its file, which does not count: with a bound on sizes it would not collapse.
    "stream": ("streamed", "memory while 1 GiB flows through", "MiB", ()),
}


# What ends a run, and not the others.
FAILURES = (Wrong, OSError, http.client.HTTPException, subprocess.TimeoutExpired)


def filled(text, values):
    return re.sub(r"@([A-Z_]+)@", lambda found: str(values[found[1]]), text)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepted():
    """How many connections this machine has accepted."""
    names, values = re.findall(r"^Tcp: (.*)", pathlib.Path("/proc/net/snmp").read_text(), re.M)
    return int(dict(zip(names.split(), values.split()))["PassiveOpens"])


def processes():
    """Of each process its parent, and the ticks that it and those it has waited for took."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            # The name in brackets may be anything.
            words = pathlib.Path("/proc", name, "stat").read_text().rpartition(") ")[2].split()
            found[int(name)] = (int(words[1]), sum(map(int, words[11:15])))
    return found


class Process:
    """A program on some cores, with all its children; it ends with the `with` block."""

    def __init__(self, command, cores, folder, port):
        self.folder, self.port = folder, port
        pin = functools.partial(os.sched_setaffinity, 0, cores)
        with open(folder / "output", "wb") as output, open(folder / "errors", "wb") as errors:
            self.started = subprocess.Popen(command.split(), stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                                            cwd=folder, preexec_fn=pin)
        # Popen returns when the program runs.
        self.begun = time.monotonic()

    def __enter__(self):
        try:
            self.wait_for_port()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def wait_for_port(self):
        while time.monotonic() < self.begun + 20:
            if self.started.poll() is not None:
                break
            with contextlib.suppress(OSError), connected(self.port):
                self.listened_after = time.monotonic() - self.begun
                return
            time.sleep(0.0005)
        texts = [self.folder / name for name in ("errors", "output", "log")]
        told = b"".join(text.read_bytes() for text in texts if text.exists())
        raise Wrong(f"it does not listen: {told.decode(errors='replace').strip()[-400:]}")

    def end(self):
        pids = self.pids()
        if self.started.poll() is None:
            self.started.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.started.wait(5)
        still = processes()
        for pid in pids:
            if pid in still and (pid != self.started.pid or self.started.poll() is None):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.started.wait()

    def pids(self):
        all_processes, tree = processes(), {self.started.pid}
        while True:
            children = {pid for pid, (parent, _) in all_processes.items() if parent in tree} - tree
            if not children:
                return tree
            tree |= children

    def cpu(self):
        """Seconds."""
        all_processes = processes()
        return sum(all_processes[pid][1] for pid in self.pids() if pid in all_processes) / TICK

    def memory(self):
        """Bytes: what is shared with others counts in part."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.search(r"^Pss: +(\d+)", rollup, re.M)[1]) << 10
        return total


class Measurement:
    """The origin, and what a run needs."""

    def __init__(self, options, work):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Wrong("two cores are needed: one for the proxy, one for the origin and the load")
        self.options, self.work = options, work
        self.proxy_core, self.load_core = cores[:2]
        os.sched_setaffinity(0, {self.load_core})
        self.files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.files = min(self.files, 1 << 20) if self.files > 0 else 1 << 20
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))
        self.runs = 0
        self.bodies = {}

    def run(self, command, seconds, environment=()):
        """Runs a program to its end on the load's core."""
        environment = os.environ | dict(environment)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)

    def clear(self):
        """Removes what the last run left; the first folder is the origin's."""
        for number in range(2, self.runs + 1):
            shutil.rmtree(self.work / str(number), ignore_errors=True)

    def folder(self):
        self.runs += 1
        folder = self.work / str(self.runs)
        folder.mkdir()
        # Some give up root, and write there.
        folder.chmod(0o777)
        return folder

    def configured(self, folder, more=""):
        """A file of Larder's, as open as it goes."""
        config = folder / "larder.toml"
        config.write_text((ROOT / "config/open.toml").read_text() + more)
        return config

    def values(self, folder, port):
        return {
            "BINARY": self.options.binary, "CONFIG": self.configured(folder, SILENT), "ADMIN": "off",
            "DIR": folder, "PORT": port, "MEMORY": MEMORY, "MEMORY_MIB": MEMORY >> 20, "WORKERS": 1,
            "FILES": self.files, "HALF_FILES": self.files // 2,
            "USER": "user root;" if os.geteuid() == 0 else "",
            "TEMPORARY": " ".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY),
        }

    @contextlib.contextmanager
    def origin(self):
        folder, port, slow_port = self.folder(), free_port(), free_port()
        (folder / "bodies").mkdir()
        (folder / "slow").mkdir()
        for name in ("1k", "64k", "10m"):
            self.bodies[name] = random.Random(SIZES[name]).randbytes(SIZES[name])
            (folder / "bodies" / name).write_bytes(self.bodies[name])
        # It takes no memory.
        with open(folder / "bodies/1g", "wb") as sparse:
            sparse.truncate(SIZES["1g"])
        values = self.values(folder, port) | {"SLOW": slow_port}
        values["BODY"] = "x" * 1024
        values["MORE_FIELDS"] = " ".join(f'add_header X-Field-{n} "a value of field {n}";' for n in range(45))
        (folder / "origin.conf").write_text(filled((HERE / "peers/origin.conf").read_text(), values))
        self.authority, self.validations = f"127.0.0.1:{port}", folder / "validations"
        self.nginx = Process(f"nginx -e {folder}/log -c {folder}/origin.conf", {self.load_core}, folder, port)
        slow = Process(f"{sys.executable} {HERE}/slow.py {slow_port}", {self.load_core}, folder / "slow", slow_port)
        with self.nginx, slow:
            yield

    def asked(self):
        """How many requests the origin has got; the one that asks does not count."""
        self.counts = getattr(self, "counts", 0) + 1
        connection = http.client.HTTPConnection(self.authority, timeout=10)
        connection.request("GET", "/count", headers={"Connection": "close"})
        text = connection.getresponse().read().decode()
        connection.close()
        return int(text.split("requests")[1].split()[2]) - self.counts

    def proxy(self, peer, cores=None, **others):
        command, _, reverse = PEERS[peer]
        folder, port = self.folder(), free_port()
        values = self.values(folder, port) | {"ORIGIN": self.authority.rpartition(":")[2]} | others
        if peer == "larder-log":
            self.configured(folder)
        templates = (HERE / "peers").glob(f"{peer}/*" if (HERE / "peers" / peer).is_dir() else f"{peer}.*")
        for template in templates:
            (folder / template.name).write_text(filled(template.read_text(), values))
        process = Process(filled(command, values), cores or {self.proxy_core}, folder, port)
        process.peer, process.prefix = peer, "" if reverse else f"http://{self.authority}"
        return process

    def request(self, proxy, path, fields=""):
        return f"GET {proxy.prefix}{path} HTTP/1.1\r\nHost: {self.authority}\r\n{fields}\r\n"

    def get(self, proxy, path, fields=()):
        """One GET through the proxy: status, fields, content."""
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", proxy.prefix + path, headers={"Host": self.authority} | dict(fields))
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def check(self, proxy, path, stored):
        """Whether the answer is right, and where it is to be stored, comes without the origin. Gives its fields."""
        body = self.bodies[path.split("/")[1]] if path.split("/")[1] in self.bodies else b"x" * 1024
        until = time.monotonic() + 10
        while True:
            for n in range(3):
                before = self.asked() if n == 2 else 0
                status, fields, content = self.get(proxy, path)
                if (status, hashlib.sha256(content).digest()) != (200, hashlib.sha256(body).digest()):
                    raise Wrong(f"a wrong answer: {status}, {len(content)} bytes")
            if not stored or self.asked() == before:
                return fields
            # Some take clients before their cache is there.
            if time.monotonic() > until:
                raise Wrong("it does not store it")
            time.sleep(0.1)

    def wrk(self, proxy, path, seconds, fields="", connections=CONNECTIONS, **variables):
        """Load for that time. What comes in `variables` stands in wrk.lua."""
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", HERE / "wrk.lua"]
        environment = {"REQUEST": self.request(proxy, path, fields)}
        environment |= {name: str(value) for name, value in variables.items()}
        done = self.run([*command, f"http://127.0.0.1:{proxy.port}/"], seconds + 60, environment)
        if "MORE" in variables and (done.returncode != 0 or "Requests/sec" in done.stdout):
            raise Wrong(f"not all was answered in {seconds} s: {done.stderr.strip()[-200:]}")
        if "MORE" in variables:
            return None
        line = next((line for line in done.stdout.splitlines() if line.startswith("JSON ")), None)
        if line is None:
            raise Wrong(f"wrk: {done.stdout[-200:]} {done.stderr[-200:]}")
        return json.loads(line[5:])

    def load(self, proxy, path, stored, fields="", connections=CONNECTIONS, **variables):
        """The figures of a load that is measured. Where `stored`, none of it may reach the origin; where not, all
        has to; `None` leaves that to the caller."""
        # A fifth of it first, which is not measured.
        warm = self.wrk(proxy, path, max(1, self.options.seconds // 5), fields, connections, **variables)
        if "#" in path and not stored:
            variables["FIRST"] = warm["requests"] * 2 + connections * 2
        asked, cpu, load_cpu, begun = self.asked(), proxy.cpu(), self.load_cpu(), time.monotonic()
        told = self.wrk(proxy, path, self.options.seconds, fields, connections, **variables)
        cpu, load_cpu, took = proxy.cpu() - cpu, self.load_cpu() - load_cpu, time.monotonic() - begun
        asked = self.asked() - asked
        if told["wrong"] or told["broken"] or not told["requests"]:
            raise Wrong(f"of {told['requests']} requests {told['wrong']} got an error, {told['broken']} broke")
        if stored and asked:
            raise Wrong(f"of {told['requests']} requests {asked} reached the origin")
        if stored is False and asked < told["requests"]:
            raise Wrong(f"of {told['requests']} requests only {asked} reached the origin")
        return {
            "us": cpu / told["requests"] * 1e6, "s_per_gb": cpu / told["bytes"] * 1e9,
            "per_second": told["requests"] / told["microseconds"] * 1e6, "load_core": load_cpu / took,
            "p99_us": told["p99"], "max_us": told["max"], "requests": told["requests"], "asked": asked,
        }

    def load_cpu(self):
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return self.nginx.cpu() + children.ru_utime + children.ru_stime

    def fill(self, proxy, path, count, fields="", connections=CONNECTIONS):
        """Asks for `count` responses, each at least once. Gives how many requests reached the origin."""
        asked = self.asked()
        self.wrk(proxy, path, 30 + count // 1000, fields, connections, NUMBERS=count, MORE=4 * connections)
        return self.asked() - asked

    def store(self, *arguments, **others):
        """The same for responses that are not stored yet, and then are."""
        count, asked = arguments[2], self.fill(*arguments, **others)
        if asked < count:
            # The last answers to some of the connections came too late.
            asked += self.fill(*arguments, **others)
        if asked < count:
            raise Wrong(f"the origin was asked {asked} times for {count} responses")

    # The scenarios: each gives its figure as "value", of which less is better.

    def hit(self, proxy, size, figure, connections, **variables):
        path = f"/{size}/hour/one"
        self.check(proxy, path, True)
        figures = self.load(proxy, path, True, connections=connections, **variables)
        return figures | {"value": figures[figure]}

    def hit_1k(self, proxy):
        return self.hit(proxy, "1k", "us", CONNECTIONS)

    def hit_own(self, proxy):
        return self.hit(proxy, "1k", "us", CONNECTIONS, OWN=1)

    def hit_64k(self, proxy):
        return self.hit(proxy, "64k", "us", CONNECTIONS)

    def hit_10m(self, proxy):
        return self.hit(proxy, "10m", "s_per_gb", 16)

    def condition(self, proxy):
        tag = self.check(proxy, "/1k/hour/one", True)["ETag"]
        status, _, content = self.get(proxy, "/1k/hour/one", [("If-None-Match", tag)])
        if (status, content) != (304, b""):
            raise Wrong(f"{status} for its own ETag")
        figures = self.load(proxy, "/1k/hour/one", True, f"If-None-Match: {tag}\r\n")
        return figures | {"value": figures["us"]}

    def new_urls(self, proxy, kind):
        self.check(proxy, f"/1k/{kind}/check", kind == "hour")
        figures = self.load(proxy, f"/1k/{kind}/#", False)
        return figures | {"value": figures["us"]}

    def new(self, proxy):
        return self.new_urls(proxy, "hour")

    def not_stored(self, proxy):
        return self.new_urls(proxy, "never")

    def validated(self, proxy):
        self.check(proxy, "/1k/check/0", False)
        # A second apart at least from what was stored: ages are told in seconds.
        self.store(proxy, "/1k/check/#", 1000)
        time.sleep(1.2)
        self.validations.write_bytes(b"")
        figures = self.load(proxy, "/1k/check/#", None, NUMBERS=1000)
        time.sleep(0.3)
        answers = self.validations.read_text().split()
        validated = answers.count("304")
        if validated < 0.98 * len(answers) or figures["asked"] < 0.9 * figures["requests"]:
            raise Wrong(f"of {figures['requests']} requests {figures['asked']} reached the origin, "
                        f"and {validated} of its {len(answers)} answers were 304")
        return figures | {"value": figures["us"]}

    def through_tunnels(self, proxy, size, count, *options):
        """CPU and seconds for so many bodies through tunnels, and how many tunnels that took."""
        command = ["curl", "-qsS", "-Z", *options, "--noproxy", "", "-o", "/dev/null",
                   "--proxytunnel", "--proxy", f"http://127.0.0.1:{proxy.port}",
                   "-w", "%{http_code} %{size_download} %{http_connect}\n"]
        url = f"http://{self.authority}/{size}/never/"

        def fetch(count):
            return self.run([*command, f"{url}[1-{count}]"], 120)

        fetch(8)
        cpu, begun = proxy.cpu(), time.monotonic()
        done = fetch(count)
        cpu, took = proxy.cpu() - cpu, time.monotonic() - begun
        answers = [line.rpartition(" ") for line in done.stdout.splitlines()]
        right = sum(given == f"200 {SIZES[size]}" for given, _, _ in answers)
        if done.returncode != 0 or right != count:
            raise Wrong(f"{right} of {count} bodies came: {done.stderr.strip()[-200:]}")
        return cpu, took, sum(connect == "200" for _, _, connect in answers)

    def tunnelled(self, proxy):
        count = 30 * self.options.seconds
        cpu, took, tunnels = self.through_tunnels(proxy, "10m", count, "--parallel-max", "4")
        if not tunnels:
            raise Wrong("there was no tunnel")
        return {"value": cpu / count / SIZES["10m"] * 1e9, "per_second": count / took}

    def tunnels(self, proxy):
        count = 1000 * self.options.seconds
        cpu, took, tunnels = self.through_tunnels(proxy, "1k", count, "--parallel-max", "64", "-H", "Connection: close")
        if tunnels != count:
            raise Wrong(f"{count} answers came through {tunnels} tunnels")
        return {"value": cpu / count * 1e6, "per_second": count / took}

    def connections(self, proxy):
        path, fields = "/1k/hour/one", "Connection: close\r\n"
        self.check(proxy, path, True)
        with connected(proxy.port) as connection:
            connection.sendall(self.request(proxy, path, fields).encode())
            head = answer(connection, self.bodies["1k"]).partition(b"\r\n\r\n")[0]
            if b"\r\nconnection: close" not in head.lower() or connection.recv(1):
                raise Wrong("it does not close a connection when it is asked to")
        opened = accepted()
        figures = self.load(proxy, path, True, fields)
        if (opened := accepted() - opened) < figures["requests"]:
            raise Wrong(f"{figures['requests']} requests came over {opened} connections")
        return figures | {"value": figures["us"]}

    def popular(self, proxy):
        self.check(proxy, "/1k/hour/check", True)
        self.store_all(proxy)
        figures = self.load(proxy, "/1k/hour/#", None, NUMBERS=STORED, ZIPF=1)
        if figures["asked"] > figures["requests"] // 100:
            raise Wrong(f"of {figures['requests']} requests {figures['asked']} reached the origin")
        return figures | {"value": figures["us"]}

    def waits(self, proxy):
        self.check(proxy, "/1k/hour/one", True)
        asks = proxy.port, self.request(proxy, "/1k/hour/one").encode(), self.bodies["1k"], RATE
        paced(*asks, 1)
        asked = self.asked()
        waits, late = paced(*asks, self.options.seconds)
        if asked := self.asked() - asked:
            raise Wrong(f"{asked} requests reached the origin")
        p99 = [statistics.quantiles(values, n=100)[98] * 1000 for values in (waits, late)]
        return {"value": p99[0], "late_ms": p99[1], "requests": len(waits)}

    def collapsed(self, proxy):
        self.check(proxy, "/1k/hour/one", True)
        request = self.request(proxy, "/slow/one").encode()
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(connected(proxy.port)) for _ in range(TOGETHER)]
            asked, begun = self.asked(), time.monotonic()
            for connection in connections:
                connection.sendall(request)
            for connection in connections:
                answer(connection, b"x" * 1024)
            took = time.monotonic() - begun
        return {"value": took * 1000, "asked": self.asked() - asked}

    def asked_for(self, proxy):
        return {"value": self.collapsed(proxy)["asked"]}

    def started(self, proxy):
        proxy.end()
        times = []
        for _ in range(STARTS):
            self.clear()
            with self.proxy(proxy.peer) as again:
                times.append(again.listened_after)
        return {"value": statistics.median(times) * 1000}

    def disk(self, proxy):
        """Bytes of what nginx keeps in files: they are its cache. What Traffic Server writes into its file counts no
        second time beside its memory."""
        files = (proxy.folder / "cache").rglob("*")
        return sum(file.stat().st_blocks * 512 for file in files if file.is_file())

    def taken(self, proxy):
        return proxy.memory() + self.disk(proxy)

    def store_all(self, proxy):
        self.store(proxy, "/1k/hour/#", STORED)
        # Once more: some take into memory only what was asked for again.
        if (lost := self.fill(proxy, "/1k/hour/#", STORED)) > STORED // 100:
            raise Wrong(f"{lost} of {STORED} are not stored")

    def stored_memory(self, proxy):
        self.check(proxy, "/1k/hour/check", True)
        self.store(proxy, "/1k/hour/before-#", 2000)
        time.sleep(1)
        before = self.taken(proxy)
        self.store_all(proxy)
        time.sleep(1)
        return {"value": (self.taken(proxy) - before) / STORED - SIZES["1k"]}

    def idle_memory(self, proxy):
        self.check(proxy, "/1k/hour/one", True)
        request = self.request(proxy, "/1k/hour/one").encode()
        time.sleep(1)
        before, held = proxy.memory(), []
        try:
            for _ in range(IDLE):
                held.append(connected(proxy.port))
                held[-1].sendall(request)
                answer(held[-1], self.bodies["1k"])
            # Until nothing more is given back.
            time.sleep(5)
            value = (proxy.memory() - before) / IDLE
            for connection in held:
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    if connection.recv(1) == b"":
                        raise Wrong("an idle connection was closed")
        finally:
            for connection in held:
                connection.close()
        return {"value": value}

    def streamed(self, proxy):
        self.check(proxy, "/1k/hour/one", True)
        command = ["curl", "-qsS", "--max-time", "120", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
                   "-H", f"Host: {self.authority}", "--request-target", f"{proxy.prefix}/1g/hour/one",
                   f"http://127.0.0.1:{proxy.port}/"]
        time.sleep(1)
        before = most = self.taken(proxy)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
            while curl.poll() is None:
                most = max(most, self.taken(proxy))
                time.sleep(0.01)
            told = curl.stdout.read()
        if told != f"200 {SIZES['1g']}":
            raise Wrong(f"a wrong answer: {told}")
        return {"value": (max(most, self.taken(proxy)) - before) / 2**20}
