"""How Larder's cost for a hit grows, and what a purge does to hits: Larder alone."""

import concurrent.futures
import json
import pathlib
import re
import statistics
import sys
import time

from measure import FAILURES, MEMORY, ROOT, STORED, Wrong, free_port


def hits_among(measurement, count):
    memory = MEMORY
    if count * 3000 > memory:
        memory = count * 3000
        available = int(re.search(r"MemAvailable: +(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) << 10
        if available < memory:
            raise Wrong(f"that takes {memory / 2**30:.0f} GiB, and {available / 2**30:.0f} are available")
    with measurement.proxy("larder", MEMORY=memory) as proxy:
        measurement.store(proxy, "/1k/hour/#", count)
        return measurement.load(proxy, "/1k/hour/#", True, NUMBERS=count)["us"]


def hits_over(measurement, connections):
    if connections * 1.1 > measurement.files:
        raise Wrong(f"only {measurement.files} descriptors are allowed")
    with measurement.proxy("larder") as proxy:
        measurement.check(proxy, "/1k/hour/one", True)
        return measurement.load(proxy, "/1k/hour/one", True, connections=connections)["us"]


def hits_with(measurement, fields):
    with measurement.proxy("larder") as proxy:
        got = measurement.check(proxy, f"/fields/{fields}/one", True)
        # Age, Via and Cache-Status are of the proxy's own.
        if len(got) != fields + 3:
            raise Wrong(f"{len(got)} fields came: {got.keys()}")
        return measurement.load(proxy, f"/fields/{fields}/one", True)["us"]


def hits_of_variants(measurement, count):
    config = measurement.folder() / "larder.toml"
    config.write_text((ROOT / "config/open.toml").read_text() + "\n[cache]\nvariants = 1000\n")
    with measurement.proxy("larder", CONFIG=config) as proxy:
        measurement.store(proxy, "/1k/vary/one", count, "X-Variant: #\r\n", connections=1)
        return measurement.load(proxy, "/1k/vary/one", True, "X-Variant: 1\r\n")["us"]


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
        return hits.result()["max_us"] / 1000


# What is measured, the amounts that grow, and how.
GROUPS = [
    ("a hit of 1 KiB, µs, by stored responses", [1_000, STORED], hits_among),
    ("a hit of 1 KiB, µs, by connections, their opening counted", [1, 100, 10_000], hits_over),
    ("a hit of 1 KiB, µs, by fields of the response", [5, 50], hits_with),
    ("a hit of 1 KiB, µs, by variants of its URL, the oldest asked for", [1, 10, 100], hits_of_variants),
    ("the longest wait for a hit, ms, while so many are purged by a pattern", [0, 1_000, STORED], hits_during_purge),
]
# With --large.
LARGE = {hits_among: 5_000_000, hits_during_purge: 1_000_000}


def grow(measurement):
    """Medians of the rounds."""
    rows = []
    for title, amounts, method in GROUPS:
        large = [LARGE[method]] if measurement.options.large and method in LARGE else []
        for amount in amounts + large:
            row = {"title": title, "amount": amount}
            try:
                values = []
                for _ in range(measurement.options.rounds):
                    values.append(method(measurement, amount))
                    measurement.clear()
                row |= {"values": values, "value": statistics.median(values)}
            except FAILURES as wrong:
                row["wrong"] = str(wrong) or type(wrong).__name__
            measurement.clear()
            rows.append(row)
            print(f"{title}: {amount}: {row.get('wrong') or row['value']}", file=sys.stderr, flush=True)
    return rows
