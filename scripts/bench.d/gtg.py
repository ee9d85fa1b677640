"""`/__gtg` on one core beside nginx `return 200` and HAProxy `http-request return`: the server on one core, wrk on the other. CPU and
latencies with the server alone on its core; wrk has no time to spare then, and would be what limits the throughput. That is
measured once more while a busy loop has its fair half of the server's core: the server is the limit then, and wrk is not."""

from figures import median, spread, table
from processes import wait_for
from servers import NODE, ask, bellwether, catalog, farm, nginx, wrk, write

NGINX, HAPROXY = 8081, 8082
ASKED = [
    ("plain", "/__gtg"),
    ("one category", "/__gtg?categories=read"),
    ("two categories", "/__gtg?categories=read,write"),
    ("a service", "/__gtg/svc00003"),
]


def start(run, options):
    """The three servers, each on core 0; only one of them is asked at a time."""
    farm(run)
    nginx(run, "nginx", f"""default_type text/plain; keepalive_timeout 60;
server {{ listen 127.0.0.1:{NGINX} backlog=4096; location / {{ add_header Cache-Control no-store; return 200 OK; }} }}""", core=0)
    conf = write(run.work, "haproxy-answers.cfg", f"""
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout client 60s
  timeout http-keep-alive 60s
frontend answers
  bind 127.0.0.1:{HAPROXY}
  http-request return status 200 content-type text/plain string OK hdr Cache-Control no-store
""")
    haproxy = run.start("haproxy-answers", ["haproxy", "-db", "-q", "-f", conf], core=0)
    # A hundred targets each minute: answers are measured, not probes.
    node = bellwether(run, options.binary, catalog(run, "gtg", 100, 60, ("read", "write")), core=0)
    wait_for("its answer", haproxy, lambda: ask(HAPROXY, "/")[0] == 200)
    for _, path in ASKED:
        wait_for(f"{path} good", node, lambda: ask(NODE, path)[0] == 200)
    by_name = {process.name: process for process in run.all}
    return [("Bellwether", node, NODE), ("nginx", by_name["nginx"], NGINX), ("HAProxy", haproxy, HAPROXY)]


def one(run, server, port, path, seconds):
    before = server.cpu()
    result = wrk(run, f"http://127.0.0.1:{port}{path}", seconds, core=1)
    used, took = server.cpu() - before, result["duration"] / 1e6
    if result["errors"]:
        raise RuntimeError(f"{server.name}: {result['errors']} errors at {path}")
    return {
        "rate": result["requests"] / took, "cpu": used / result["requests"] * 1e6, "p50": result["p50"], "p99": result["p99"],
        "busy": used / took, "load": result["cpu"] / took,
    }


def measure(run, options):
    servers = start(run, options)
    seconds = 1 if options.quick else 2
    for _, server, port in servers:
        one(run, server, port, "/__gtg", 1)
    rounds = []
    for number in range(options.rounds):
        alone = each(run, servers, number, seconds)
        loop = run.start("busy-loop", ["sh", "-c", "while :; do :; done"], core=0)
        shared = each(run, servers, number, 1)
        run.end(loop)
        for key, found in alone.items():
            found |= {"shared rate": shared[key]["rate"], "shared busy": shared[key]["busy"], "shared load": shared[key]["load"]}
        rounds.append(alone)
        options.say(f"gtg: round {number + 1} of {options.rounds}")
    return report(rounds)


def each(run, servers, number, seconds):
    """All questions to all servers, whose order changes from round to round."""
    turn = {}
    for what, path in ASKED:
        for place in range(len(servers)):
            name, server, port = servers[(place + number) % len(servers)]
            turn[what, name] = one(run, server, port, path, seconds)
    return turn


def report(rounds):
    rows, goals = [], []
    for what, path in ASKED:
        for name in ("Bellwether", "nginx", "HAProxy"):
            mid = {key: median([turn[what, name][key] for turn in rounds]) for key in rounds[0][what, name]}
            rows.append([
                f"`{path}`" if name == "Bellwether" else "", name, f"{mid['rate'] / 1000:.1f}", f"{mid['cpu']:.2f}",
                f"{mid['p50'] / 1000:.2f}", f"{mid['p99'] / 1000:.2f}", f"{mid['busy'] * 100:.0f} %", f"{mid['load'] * 100:.0f} %",
                f"{mid['shared rate'] / 1000:.1f}", f"{mid['shared busy'] * 100:.0f} %", f"{mid['shared load'] * 100:.0f} %",
            ])
        for rival in ("nginx", "HAProxy"):
            for key, title, bound, better in (("shared rate", "throughput", ">= 1.00", 1), ("cpu", "CPU a request", "<= 1.00", -1),
                                              ("p99", "p99", "<= 1.00", -1)):
                ratios = [turn[what, "Bellwether"][key] / turn[what, rival][key] for turn in rounds]
                reached = (median(ratios) - 1) * better >= 0
                goals.append([f"`/__gtg`, {what}: {title} / {rival}", spread(ratios), bound, "yes" if reached else "NO"])
    head = ["asked", "server", "1000 requests/s", "CPU a request, us", "p50, ms", "p99, ms", "server's core", "wrk's core",
            "beside a busy loop: 1000 requests/s", "server's share", "wrk's core"]
    text = "### `/__gtg` on one core, 64 connections\n\n" + table(head, rows)
    return goals, text
