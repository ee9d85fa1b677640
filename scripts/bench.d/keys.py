"""A key written to etcd until the node's answer has changed."""

import base64
import json
import os
import subprocess
import time

from figures import quantile, table
from processes import wait_for
from servers import NODE, Http, ask, bellwether, farm, metrics

ETCD, PEER = 2379, 2380
KEY = "/ft/healthcheck-categories/read/enabled"
SIZES = [100, 10_000]


def coded(text):
    return base64.b64encode(text.encode()).decode()


class Etcd:
    """etcd's own JSON gateway: a put without the start of a program."""

    def __init__(self):
        self.http = Http(ETCD)

    def post(self, path, body):
        status, _, answer = self.http.ask(path, method="POST", body=json.dumps(body).encode())
        if status != 200:
            raise RuntimeError(f"etcd: {status} {answer[:200]}")

    def put(self, key, value):
        self.post("/v3/kv/put", {"key": coded(key), "value": coded(value)})

    def load(self, pairs):
        """By a hundred a transaction."""
        for first in range(0, len(pairs), 100):
            puts = [{"requestPut": {"key": coded(k), "value": coded(v)}} for k, v in pairs[first:first + 100]]
            self.post("/v3/kv/txn", {"success": puts})


def measure(run, options):
    farm(run)
    rows, goals = [], []
    for targets in SIZES:
        by_gateway, by_program, program = size(run, options, targets)
        for title, times in (("put sent", by_gateway), ("etcdctl started", by_program), ("(etcdctl's own run)", program)):
            rows.append([f"{targets:,}", title, *(f"{quantile(times, q):.1f}" for q in (0.5, 0.99, 1.0)), len(times)])
        for q, bound in ((0.5, 10), (0.99, 50)):
            value = quantile(by_gateway, q)
            goals.append([f"key written to answer changed, {targets:,} targets, p{q * 100:.0f}", f"{value:.1f} ms", f"<= {bound} ms",
                          "yes" if value <= bound else "NO"])
    head = ["targets", "from", "p50, ms", "p99, ms", "max, ms", "n"]
    return goals, "### A key in etcd until `/__gtg` has changed\n\n" + table(head, rows)


def size(run, options, targets):
    command = [
        "etcd", "--name", "one", "--data-dir", os.path.join(run.work, f"etcd-{targets}"), "--log-level", "error",
        "--listen-client-urls", f"http://127.0.0.1:{ETCD}", "--advertise-client-urls", f"http://127.0.0.1:{ETCD}",
        "--listen-peer-urls", f"http://127.0.0.1:{PEER}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{PEER}",
        "--initial-cluster", f"one=http://127.0.0.1:{PEER}",
    ]
    server = run.start("etcd", command)
    wait_for("its health", server, lambda: b"true" in ask(ETCD, "/health")[2])
    etcd = Etcd()
    etcd.put("/ft/healthcheck-categories/read/period_seconds", "10")
    pairs = [(f"/ft/healthcheck/svc{i // 10:05}-{i % 10}", i) for i in range(targets)]
    etcd.load([pair for name, _ in pairs for pair in ((f"{name}/path", "/__health"), (f"{name}/categories", "read"))])
    node = bellwether(run, options.binary, more=["--etcd-endpoints", f"http://127.0.0.1:{ETCD}"])
    wait_for("all targets up", node, lambda: ask(NODE, "/__gtg?categories=read")[0] == 200, seconds=120)
    http = Http(NODE)
    count = 20 if options.quick else 60
    by_gateway = [change(http, turn, lambda value: etcd.put(KEY, value)) for turn in range(count)]
    by_program, program = [], []

    def etcdctl(value):
        began = time.perf_counter()
        command = ["etcdctl", "--endpoints", f"http://127.0.0.1:{ETCD}", "put", KEY, value]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "ETCDCTL_API": "3"})
        program.append((time.perf_counter() - began) * 1000)

    for turn in range(count // 2):
        by_program.append(change(http, turn, etcdctl))
    options.say(f"keys: {targets} targets done, {metrics().get('bellwether_transitions_total', 0):.0f} transitions meanwhile")
    http.close()
    run.end(node, server)
    return by_gateway, by_program, program


def change(http, turn, put):
    """Milliseconds from before the put to the first changed answer."""
    value, wanted = ("false", 503) if turn % 2 == 0 else ("true", 200)
    time.sleep(0.02)
    began = time.perf_counter()
    put(value)
    while http.ask("/__gtg?categories=read")[0] != wanted:
        if time.perf_counter() - began > 10:
            raise RuntimeError(f"the answer did not change to {wanted} within 10 s")
    return (time.perf_counter() - began) * 1000
