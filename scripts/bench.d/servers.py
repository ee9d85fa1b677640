"""Configurations and starts: Bellwether, its rivals, the farm that is probed, wrk."""

import json
import os
import resource
import socket
import subprocess
import time

from processes import wait_for

FARM = 8090
NODE = 8080


def document():
    """About 1 KiB, as services of FT give it."""
    check = {
        "name": "database reachable", "ok": True, "severity": 2,
        "businessImpact": "nobody can read articles until it is back",
        "technicalSummary": "opens a connection and asks for one row",
        "panicGuide": "see the run book, then call the database team",
        "checkOutput": "1 row in 2 ms", "lastUpdated": "2026-01-01T00:00:00Z",
    }
    checks = [{"id": name, **check} for name in ("db", "cache", "queue")]
    whole = {"schemaVersion": 1, "systemCode": "farm", "name": "farm", "description": "one of many", "checks": checks}
    return json.dumps(whole, separators=(",", ":"))


class Http:
    """One kept connection; nothing between it and the figures but a socket."""

    def __init__(self, port, address="127.0.0.1"):
        self.socket = socket.create_connection((address, port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kept = b""

    def ask(self, path, accept="*/*", method="GET", body=b""):
        """Status, headers and body."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n{length}\r\n"
        self.socket.sendall(head.encode() + body)
        got = bytearray(self.kept)
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self.read()
        lines = bytes(got[:end]).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        got = got[end + 4:]
        if headers.get("transfer-encoding") == "chunked":
            while not got.endswith(b"0\r\n\r\n"):
                got += self.read()
            self.kept = b""
            return int(lines[0].split()[1]), headers, bytes(got)
        length = int(headers.get("content-length", 0))
        parts, have = [bytes(got)], len(got)
        while have < length:
            part = self.read()
            parts.append(part)
            have += len(part)
        whole = b"".join(parts)
        self.kept = whole[length:]
        return int(lines[0].split()[1]), headers, whole[:length]

    def read(self):
        part = self.socket.recv(1 << 20)
        if not part:
            raise OSError("the connection was closed")
        return part

    def close(self):
        self.socket.close()


def ask(port, path, accept="*/*"):
    """One question on a connection of its own."""
    http = Http(port)
    try:
        return http.ask(path, accept)
    finally:
        http.close()


def write(work, name, text):
    path = os.path.join(work, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def nginx(run, name, servers, core=None):
    """One worker; `servers` is what stands in `http`."""
    work = run.work
    conf = write(work, f"{name}.conf", f"""
user root; worker_processes 1; pid {work}/{name}.pid; error_log {work}/{name}.error; daemon off;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000; {servers} }}
""")
    return run.start(name, ["nginx", "-e", f"{work}/{name}.error", "-c", conf], core=core)


def farm(run):
    """What is probed: one nginx that answers at each loopback address, and counts."""
    body = document()
    process = nginx(run, "farm", f"""keepalive_timeout 0;
server {{ listen 0.0.0.0:{FARM} backlog=8192; default_type application/json;
  location / {{ return 200 '{body}'; }} location = /count {{ stub_status; }} }}""")
    wait_for("its answer", process, lambda: ask(FARM, "/count")[0] == 200)
    return process


def farm_count():
    """Requests that the farm has answered."""
    text = ask(FARM, "/count")[2].decode()
    return int(text.splitlines()[2].split()[2])


def catalog(run, name, targets, period, categories=("read",)):
    """Ten targets a service."""
    lines = ["categories:"]
    lines += [f"  {category}: {{period_seconds: {period}}}" for category in categories]
    lines.append("targets:")
    names = ", ".join(categories)
    lines += [f"  svc{i // 10:05}-{i % 10}: {{categories: [{names}]}}" for i in range(targets)]
    return write(run.work, f"{name}.yaml", "\n".join(lines) + "\n")


def bellwether(run, binary, catalog_file=None, port=NODE, core=None, name="bellwether", more=()):
    """A node with its own data directory."""
    data = os.path.join(run.work, f"{name}-{time.monotonic_ns()}")
    command = [
        binary, "serve", "--listen", f"127.0.0.1:{port}", "--vulcand", f"127.0.0.1:{FARM}", "--data-dir", data,
        "--mass-removal-hold", "0s", "--node", "bench", "--drain-delay", "0s", "--log-level", "warn", *more,
    ]
    if catalog_file:
        command += ["--catalog", catalog_file]
    return run.start(name, command, core=core)


def metrics(port=NODE):
    """The node's samples: name with labels to value."""
    text = ask(port, "/metrics")[2].decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def probes(samples):
    return sum(value for name, value in samples.items() if name.startswith("bellwether_probes_total"))


def haproxy_checks(run, targets, period):
    """HAProxy with a health check for each target, one thread."""
    servers = "\n".join(f"  server s{i} 127.0.0.3:{FARM} check" for i in range(targets))
    conf = write(run.work, "haproxy-checks.cfg", f"""
global
  nbthread 1
  maxconn 1000
  stats socket {run.work}/haproxy.sock mode 600 level admin
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
  timeout check 5s
frontend none
  bind 127.0.0.1:8071
  default_backend farm
backend farm
  option httpchk
  http-check send meth GET uri /__health hdr Host farm
  default-server inter {period}s fall 3 rise 2
{servers}
""")
    return run.start("haproxy-checks", ["haproxy", "-db", "-q", "-f", conf])


def haproxy_unchecked(run):
    """How many of its servers had no check yet."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(f"{run.work}/haproxy.sock")
        control.sendall(b"show stat -1 4 -1\n")
        got = bytearray()
        while part := control.recv(1 << 20):
            got += part
    lines = got.decode().splitlines()
    column = lines[0].lstrip("# ").split(",").index("check_status")
    return sum(1 for line in lines[1:] if line and line.split(",")[column].lstrip("* ") in ("INI", "UNK", ""))


def blackbox(run):
    conf = write(run.work, "blackbox.yml", """
modules:
  http_2xx: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4, headers: {Host: farm}}}
""")
    command = ["prometheus-blackbox-exporter", f"--config.file={conf}", "--web.listen-address=127.0.0.1:9115"]
    process = run.start("blackbox", command)
    wait_for("its answer", process, lambda: ask(9115, "/-/healthy")[0] == 200)
    return process


DONE = """
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format('{"requests": %d, "errors": %d, "p50": %f, "p99": %f, "duration": %f}', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99), summary.duration))
end
"""


def wrk(run, url, seconds, connections=64, core=None, script="", name="wrk"):
    """Load for some seconds. Requests, errors, latencies in microseconds, the load generator's own CPU seconds."""
    path = write(run.work, f"{name}.lua", script + DONE)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", path, url]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
                          timeout=seconds + 30)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"wrk said: {done.stdout}")
    result = json.loads(lines[-1])
    result["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result
