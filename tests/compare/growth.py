"""How Larder's cost for a hit grows, what a purge does to hits, and what memory a full store has: Larder alone.

Of hits, each request has words of its own: what is asked for again in the same words costs the same, however much there
is. (But for those by workers, which are compared with each other.)
"""

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import re
import statistics
import sys
import time

from clients import Wrong, answer, connected, part
from measure import FAILURES, MEMORY, SILENT, SIZES, STORED, free_port

# Who reads slowly while Larder is filled, and how many connections fill it by each size.
READERS = 8
TRIES = 4
FILLING = {"1k": 16, "64k": 16, "10m": 4}


def hits_among(measurement, count):
    memory = MEMORY
    if count * 3000 > memory:
        memory = count * 3000
        available = int(re.search(r"MemAvailable: +(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) << 10
        if available < memory:
            raise Wrong(f"that takes {memory / 2**30:.0f} GiB, and {available / 2**30:.0f} are available")
    with measurement.proxy("larder", MEMORY=memory) as proxy:
        measurement.store(proxy, "/1k/hour/#", count)
        return measurement.load(proxy, "/1k/hour/#", True, NUMBERS=count, OWN=1)


def hits_over(measurement, connections):
    if connections * 1.1 > measurement.files:
        raise Wrong(f"only {measurement.files} descriptors are allowed")
    with measurement.proxy("larder") as proxy:
        measurement.check(proxy, "/1k/hour/one", True)
        return measurement.load(proxy, "/1k/hour/one", True, connections=connections, OWN=1)


def hits_with(measurement, fields):
    with measurement.proxy("larder") as proxy:
        got = measurement.check(proxy, f"/fields/{fields}/one", True)
        # Age, Via and Cache-Status are of the proxy's own.
        if len(got) != fields + 3:
            raise Wrong(f"{len(got)} fields came: {got.keys()}")
        return measurement.load(proxy, f"/fields/{fields}/one", True, OWN=1)


def hits_of_variants(measurement, count):
    config = measurement.configured(measurement.folder(), SILENT + "\n[cache]\nvariants = 1000\n")
    with measurement.proxy("larder", CONFIG=config) as proxy:
        measurement.store(proxy, "/1k/vary/one", count, "X-Variant: #\r\n", connections=1)
        return measurement.load(proxy, "/1k/vary/one", True, "X-Variant: 1\r\n", OWN=1)


def served_by(measurement, workers):
    """nginx shows what it costs that the load has the same cores."""
    config = measurement.configured(measurement.folder(), SILENT + f"\n[server]\nworkers = {workers}\n")
    both = {measurement.proxy_core, measurement.load_core}
    with measurement.proxy("larder", both, CONFIG=config) as proxy:
        measurement.check(proxy, "/1k/hour/one", True)
        hits = measurement.load(proxy, "/1k/hour/one", True)
        missed = measurement.load(proxy, "/1k/never/#", False)
    with measurement.proxy("nginx", both, WORKERS=workers) as proxy:
        measurement.check(proxy, "/1k/hour/one", True)
        others = measurement.load(proxy, "/1k/hour/one", True)
    return {"hit": hits["us"], "other": others["us"], "pass": missed["us"]}


def hits_during_purge(measurement, count):
    admin = f"127.0.0.1:{free_port()}"
    with measurement.proxy("larder", ADMIN=admin) as proxy, concurrent.futures.ThreadPoolExecutor() as pool:
        measurement.check(proxy, "/fields/5/one", True)
        if count:
            measurement.store(proxy, "/1k/hour/#", count)
        hits = pool.submit(measurement.load, proxy, "/fields/5/one", True)
        # In the middle of what is measured.
        time.sleep(max(1, measurement.options.seconds // 5) + measurement.options.seconds / 2)
        pattern = f"http://{measurement.authority}/1k/*"
        purge = [measurement.options.binary, "purge", "--json", "--admin-listen", admin, "--glob", pattern]
        done = measurement.run(purge, 60)
        if done.returncode != 0 or json.loads(done.stdout)["purged"] != count:
            raise Wrong(f"purge: {done.stdout} {done.stderr}")
        return {"max_ms": hits.result()["max_us"] / 1000}


def stored_bytes(admin):
    """What Larder counts against its capacity."""
    connection = http.client.HTTPConnection(admin, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        return int(re.search(r"^larder_store_bytes (\d+)", connection.getresponse().read().decode(), re.M)[1])


def slow_readers(measurement, proxy, stack):
    for number in range(READERS):
        reader = stack.enter_context(connected(proxy.port, 1 << 16))
        reader.sendall(measurement.request(proxy, f"/10m/hour/slow-{number}").encode())
        yield reader, bytearray()


def finish(measurement, proxy, readers):
    """What is read slowly has left the store, and comes to its end all the same."""
    for number, (reader, got) in enumerate(readers):
        if measurement.get(proxy, f"/10m/hour/slow-{number}", [("Cache-Control", "only-if-cached")])[0] != 504:
            raise Stayed("what is read slowly is still stored")
        answer(reader, measurement.bodies["10m"], got)


class Stayed(Wrong):
    """Of what was to be driven out, something was not."""


def filled(measurement, mebibytes):
    """The same by the first of some tries in which all went that was to go: now and then the eviction policy keeps one."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Stayed):
            return filled_once(measurement, mebibytes)
        measurement.clear()
    return filled_once(measurement, mebibytes)


def filled_once(measurement, mebibytes):
    """The most that it stores and takes, full already, while more comes in all sizes, and some are read slowly that
    make room for it."""
    capacity, admin = mebibytes << 20, f"127.0.0.1:{free_port()}"
    # Enough for four times the capacity.
    seconds = max(4 * measurement.options.seconds, mebibytes // 40)
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(measurement.proxy("larder", MEMORY=capacity, ADMIN=admin))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor())
        measurement.check(proxy, "/1k/hour/one", True)
        idle, stored, memory = proxy.memory(), [], []
        measurement.store(proxy, "/10m/hour/#", 2 * capacity // SIZES["10m"], connections=4)
        readers = list(slow_readers(measurement, proxy, stack))
        loads = [pool.submit(measurement.wrk, proxy, f"/{size}/hour/new-#", seconds, connections=connections)
                 for size, connections in FILLING.items()]
        while not all(load.done() for load in loads):
            stored.append(stored_bytes(admin))
            memory.append(proxy.memory())
            for reader, got in readers:
                # Half of it while the load lasts.
                got += part(reader, SIZES["10m"] // (40 * seconds))
            time.sleep(0.05)
        finish(measurement, proxy, readers)
    told = [load.result() for load in loads]
    if any(load["wrong"] or load["broken"] for load in told):
        raise Wrong(f"not all was answered: {told}")
    if (came := sum(load["bytes"] for load in told)) < 4 * capacity:
        raise Wrong(f"only {came >> 20} MiB came in {seconds} s")
    return {"stored": 100 * max(stored) / capacity, "beyond": (max(memory) - idle - capacity) / 2**20}


# The amounts that grow, how they are measured, and what of that is told.
GROUPS = [
    ([1_000, STORED], hits_among, {"us": "a hit of 1 KiB, µs, by stored responses"}),
    ([1, 100, 10_000], hits_over, {"us": "a hit of 1 KiB, µs, by connections, their opening counted"}),
    ([5, 50], hits_with, {"us": "a hit of 1 KiB, µs, by fields of the response"}),
    ([1, 10, 100], hits_of_variants, {"us": "a hit of 1 KiB, µs, by variants of its URL, the oldest asked for"}),
    ([1, 2], served_by,
     {"hit": "a hit of 1 KiB, µs, by workers, on two cores that the load shares",
      "other": "a hit of 1 KiB by nginx, µs, by its workers",
      "pass": "a miss (no-store), µs, by workers, on two cores that the load shares"}),
    ([0, 1_000, STORED], hits_during_purge,
     {"max_ms": "the longest wait for a hit, ms, while so many are purged by a pattern"}),
    ([128, 256, 1024], filled,
     {"stored": "the most that is stored, % of the capacity, by its MiB, while much more comes",
      "beyond": "the most memory then, MiB beyond the capacity and the memory at the start"}),
]
# With --large.
LARGE = {hits_among: 5_000_000, hits_during_purge: 1_000_000}


def measured(measurement, method, amount, titles):
    """A row for each title: medians of the rounds."""
    rows = {figure: {"title": title, "amount": amount} for figure, title in titles.items()}
    try:
        rounds = []
        for _ in range(measurement.options.rounds):
            rounds.append(method(measurement, amount))
            measurement.clear()
        for figure, row in rows.items():
            values = [figures[figure] for figures in rounds]
            row |= {"values": values, "value": statistics.median(values)}
    except FAILURES as wrong:
        for row in rows.values():
            row["wrong"] = str(wrong) or type(wrong).__name__
    measurement.clear()
    for row in rows.values():
        print(f"{row['title']}: {amount}: {row.get('wrong') or row['value']}", file=sys.stderr, flush=True)
    return rows.values()


def grow(measurement):
    rows = []
    for amounts, method, titles in GROUPS:
        large = [LARGE[method]] if measurement.options.large and method in LARGE else []
        for amount in amounts + large:
            rows += measured(measurement, method, amount, titles)
    return rows
