"""Runs the parts, prints the table. Started by scripts/bench inside its namespaces."""

import argparse
import importlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from figures import table
from processes import Processes

PARTS = ["gtg", "scale", "keys"]


def read(path, default=""):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return default


def first_line(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.splitlines()[0].strip() if done.stdout else ""


def surroundings():
    model = next((line.split(":")[1].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")), "?")
    versions = [
        first_line(["nginx", "-v"]).replace("nginx version: ", ""), " ".join(first_line(["haproxy", "-v"]).split()[:3]),
        " ".join(first_line(["prometheus-blackbox-exporter", "--version"]).split()[:3]).rstrip(","), first_line(["etcd", "--version"]),
    ]
    commit = first_line(["git", "rev-parse", "--short", "HEAD"])
    return (f"{time.strftime('%Y-%m-%d %H:%M')} UTC, commit {commit}; {os.cpu_count()} cores ({model}), Linux {platform.release()}; "
            f"{'; '.join(versions)}; load before: {' '.join(read('/proc/loadavg').split()[:3])}")


def tune():
    """Inside our own namespace: fresh connections in thousands must not run out of ports."""
    for name, value in (("ip_local_port_range", "10000 65535"), ("tcp_tw_reuse", "1"), ("tcp_max_syn_backlog", "16384")):
        try:
            with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
                file.write(value)
        except OSError as error:
            print(f"bench: {name} stays: {error}", file=sys.stderr)
    for name in ("/proc/sys/net/core/somaxconn",):
        try:
            with open(name, "w") as file:
                file.write("8192")
        except OSError:
            pass


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--quick", action="store_true", help="few short rounds: does it run?")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison [7; quick: 2]")
    parser.add_argument("parts", nargs="*", default=[], choices=PARTS + [[]], help="default: all")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 7)
    began = time.monotonic()
    options.say = lambda text: print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)
    # Each ends the `with` below, and with it everything started.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    tune()
    where = surroundings()
    goals, texts, failed = [], [], []
    for part in options.parts or PARTS:
        work = tempfile.mkdtemp(prefix="bellwether-bench-")
        try:
            with Processes(work) as run:
                more, text = importlib.import_module(part).measure(run, options)
            goals += more
            texts.append(text)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            failed.append(part)
            options.say(f"{part} failed: {error}")
            texts.append(f"### {part}\n\nfailed: {error}")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    took = time.monotonic() - began
    note = f"{where}. {options.rounds} rounds, {took:.0f} s" + (", quick" if options.quick else "")
    head = ["goal", "measured: median (least - most)", "bound", "reached"]
    whole = "\n\n".join([f"## Benchmarks\n\n{note}.", table(head, goals), *texts]) + "\n"
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    os.makedirs(f"{target}/bench", exist_ok=True)
    with open(f"{target}/bench/table.md", "w") as file:
        file.write(whole)
    print(whole)
    sys.exit(1 if failed else 0)


main()
