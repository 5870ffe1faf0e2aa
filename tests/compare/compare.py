"""Measures Larder beside other proxies on one machine, and prints what it found as tables.

What counts most is the CPU time, user and system, that a proxy's whole process tree took for one request: it says
what a core can do, and a busy machine disturbs it less than it does times and rates. Memory is measured too, and a few
times: of hits at a constant rate, of many who wait for one answer, of a start. The proxy has one core and one worker,
the origin (nginx) and the load (wrk, curl and this program) have another. Each run starts a proxy anew; rounds are
interleaved, all peers one after the other and then again; medians are printed, and in brackets how many times Larder's
figure that is. None writes an access log, but for the peer larder-log; larder-trained is the build of release/trained.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

import growth
import plot
from measure import FAILURES, PEERS, ROOT, SCENARIOS, SELDOM, Measurement, Wrong, filled


COMMAND = "tests/compare/run"


def version(command):
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d[\w.+~-]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def header(options, peers):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        # What others do meanwhile disturbs.
        "load": f"{os.getloadavg()[0]:.2f} in the minute before",
        "command": " ".join([COMMAND, *sys.argv[1:]]),
    }
    programs = {peer: filled(PEERS[peer][1], {"BINARY": options.binary}) for peer in peers}
    programs |= {"nginx": "nginx -v", "wrk": "wrk -v", "curl": "curl --version"}
    return facts | {name: version(command) for name, command in programs.items()}


def digits(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 5 else f"{value:.2f}"


def print_table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print("  ".join(cells).rstrip())


def median(runs, scenario, peer, figure):
    values = [run[figure] for run in runs if (run["scenario"], run["peer"]) == (scenario, peer) and figure in run]
    return statistics.median(values) if values else None


def print_results(runs, scenarios, peers):
    figures, rates = [["", *peers]], [["", *peers]]
    for scenario in scenarios:
        _, what, unit, _ = SCENARIOS[scenario]
        ours = median(runs, scenario, "larder", "value")
        row, rate = [f"{scenario}: {what}, {unit}"], [scenario]
        for peer in peers:
            value = median(runs, scenario, peer, "value")
            times = f" [{value / ours:.2f}]" if value is not None and ours and ours > 0 else ""
            row.append("" if value is None else digits(value) + times)
            value = median(runs, scenario, peer, "per_second")
            # Where the load's core was busy, a faster proxy would not have shown.
            busy = (median(runs, scenario, peer, "load_core") or 0) > 0.95
            rate.append("" if value is None else f"{value:.0f}{'*' if busy else ''}")
        figures.append(row)
        if any(rate[1:]):
            rates.append(rate)
    print("\nCPU time of the proxy (µs, s/GB), memory, and times (ms); less is better. In brackets, how many times\n"
          "Larder's figure that is: above 1.00 it takes more than Larder, below 1.00 less.\n")
    print_table(figures)
    if len(rates) > 1:
        print("\nRequests a second, as a side note; *: the load's core was the limit, not the proxy.\n")
        print_table(rates)


def grouped(rows):
    """Of each title the longest value, and its rows."""
    for title in dict.fromkeys(row["title"] for row in rows):
        group = [row for row in rows if row["title"] == title]
        yield title, max(0, *(row.get("value", 0) for row in group)) or 1, group


def print_growth(rows):
    for title, most, group in grouped(rows):
        print(f"\nGrowth: {title}\n")
        for row in group:
            if "value" in row:
                bar = "#" * round(40 * row["value"] / most)
                print(f"{row['amount']:>10,}  {digits(row['value']):>7}  {bar}".rstrip())
            else:
                print(f"{row['amount']:>10,}  {row['wrong']}")


def compare(measurement, scenarios, peers):
    runs = []
    for number in range(1, measurement.options.rounds + 1):
        for scenario in scenarios:
            method, _, _, left_out = SCENARIOS[scenario]
            for peer in peers:
                if peer in left_out:
                    continue
                run = {"round": number, "scenario": scenario, "peer": peer}
                try:
                    with measurement.proxy(peer) as proxy:
                        run |= getattr(measurement, method)(proxy)
                    told = digits(run["value"])
                except FAILURES as wrong:
                    told = run["wrong"] = str(wrong) or type(wrong).__name__
                measurement.clear()
                runs.append(run)
                print(f"{number}/{measurement.options.rounds} {scenario} {peer}: {told}", file=sys.stderr, flush=True)
    return runs


def listed(known):
    def names(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name}; there are {', '.join(known)}")
        return [name for name in known if name in chosen]
    return names


def at_least_one(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def arguments():
    parser = argparse.ArgumentParser(COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=at_least_one, default=3, help="rounds of all that is measured (3)")
    parser.add_argument("--seconds", type=at_least_one, default=5, help="length of a load (5)")
    parser.add_argument("--peers", metavar="NAME,...", type=listed(PEERS),
                        default=[peer for peer in PEERS if peer not in SELDOM],
                        help=f"who is measured, all but {' and '.join(SELDOM)} if not said: " + ", ".join(PEERS))
    parser.add_argument("--scenarios", metavar="NAME,...", type=listed(SCENARIOS), default=list(SCENARIOS),
                        help="what is measured: " + ", ".join(SCENARIOS))
    parser.add_argument("--binary", metavar="FILE", help="Larder's binary, instead of building the release")
    parser.add_argument("--json", metavar="FILE", help="also write every run into a file")
    parser.add_argument("--growth", action="store_true",
                        help="instead, how Larder's cost for a hit grows with what is stored, connections, fields, "
                        "variants and workers, what a purge does to hits, and what memory it has while it is filled "
                        "beyond what it may store")
    parser.add_argument("--plot", metavar="FILE", help="with --growth, also draw its bars into an SVG file")
    parser.add_argument("--large", action="store_true",
                        help="with --growth, also 5,000,000 stored responses, and a purge of 1,000,000: 15 GiB of memory "
                        "and some minutes")
    options = parser.parse_args()
    if options.large and not options.growth:
        parser.error("--large goes with --growth")
    if options.plot and not options.growth:
        parser.error("--plot goes with --growth")
    # Known now, and not when all is measured.
    for file in filter(None, (options.json, options.plot)):
        if os.path.isdir(file) or not os.access(os.path.dirname(os.path.abspath(file)), os.W_OK):
            parser.error(f"{file} cannot be written: expected a file in a folder that can")
    if options.binary and not os.access(options.binary, os.X_OK):
        parser.error(f"there is no program {options.binary}")
    return options


def built():
    """The release, built where it is not there."""
    if subprocess.run(["cargo", "build", "--locked", "--release"], cwd=ROOT, check=False).returncode != 0:
        sys.exit("the release could not be built")
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release/larder"


def main():
    options = arguments()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for program in ("nginx", "wrk", "curl"):
        if not shutil.which(program):
            sys.exit(f"{program} is not installed, and nothing can be measured without it")
    options.binary = os.path.abspath(options.binary or built())
    # So that the blocks that end what was started are left as they should be.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    peers = []
    for peer in ["larder"] if options.growth else options.peers:
        if shutil.which(filled(PEERS[peer][1], {"BINARY": options.binary}).split()[0]):
            peers.append(peer)
        else:
            print(f"skipped: {peer} is not installed", flush=True)
    told = header(options, peers)
    for name, value in told.items():
        print(f"{name:8} {value}", flush=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="larder-compare-", dir="/dev/shm"))
    # Some give up root, and have to get through.
    work.chmod(0o755)
    try:
        measurement = Measurement(options, work)
        with measurement.origin():
            results = growth.grow(measurement) if options.growth else compare(measurement, options.scenarios, peers)
    except Wrong as wrong:
        sys.exit(f"nothing was measured: {wrong}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if options.json:
        kind = "growth" if options.growth else "runs"
        pathlib.Path(options.json).write_text(json.dumps({"header": told, kind: results}, indent=1) + "\n")
    if options.growth:
        print_growth(results)
        if options.plot:
            pathlib.Path(options.plot).write_text(plot.svg(grouped(results), digits))
        failed = any("wrong" in row for row in results)
    else:
        print_results(results, options.scenarios, peers)
        failures = [run for run in results if "wrong" in run]
        for run in failures:
            print(f"\nnot measured: {run['peer']}, {run['scenario']}, round {run['round']}: {run['wrong']}")
        failed = bool(failures)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
