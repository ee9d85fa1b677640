"""Probes, memory, reports and the start, by number of targets; beside HAProxy's health checks and blackbox_exporter, side by side."""

import time

from figures import exponent, median, quantile, spread, table
from servers import (
    NODE, Http, ask, bellwether, blackbox, catalog, farm, farm_count, haproxy_checks, haproxy_unchecked, metrics, nginx, probes, wrk,
)

# Targets and seconds between two probes of one. The first of the pairs that are compared with blackbox_exporter has
# 2,000 targets, so that both make 1,000 probes a second.
SIZES = [(100, 10), (1_000, 10), (3_000, 10), (10_000, 10), (2_000, 2)]
RIVALS = {(10_000, 10), (2_000, 2)}
REPORTS = {100, 1_000, 10_000}
STATIC = 8083
BLACKBOX = """
local i = 0
function delay() return 15 end
function request()
  i = (i + 1) %% %d
  return wrk.format("GET", "/probe?module=http_2xx&target=http%%3A%%2F%%2F127.0.0.2%%3A8090%%2Fhealth%%2F" .. i)
end
"""


def measure(run, options):
    farm(run)
    exporter = blackbox(run)
    results = {}
    for targets, period in SIZES:
        results[targets, period] = size(run, options, exporter, targets, period)
    return report(results)


def size(run, options, exporter, targets, period):
    """Everything at one number of targets."""
    file = catalog(run, f"catalog-{targets}", targets, period)
    found = {}
    haproxy = haproxy_checks(run, targets, period)
    node = bellwether(run, options.binary, file)
    first_rounds(run, node, haproxy, targets, found)
    options.say(f"scale: {targets} targets, each {period} s: all up after {found['node up']:.1f} s")
    with_blackbox = (targets, period) in RIVALS
    rounds = max(2, options.rounds - 2) if with_blackbox else 2
    # HAProxy may gather its checks: only a whole period has all of them.
    seconds = period if with_blackbox and period > 5 else 5
    found["windows"] = [
        window(run, node, haproxy, exporter if with_blackbox else None, targets, seconds) for _ in range(rounds)
    ]
    found["node rss"], found["node peak"], found["haproxy rss"] = node.rss(), node.rss("VmHWM"), haproxy.rss()
    run.end(haproxy)
    if period == 10 and targets in REPORTS:
        reports(run, options, targets, found)
    run.end(node)
    return found


def first_rounds(run, node, haproxy, targets, found):
    """Until HAProxy has checked every server, and every target of the node is up, which takes two good results of each."""
    until = time.monotonic() + 120
    while time.monotonic() < until and ("haproxy round" not in found or "node up" not in found):
        for process in (node, haproxy):
            process.check()
        try:
            if "node up" not in found:
                good = ask(NODE, "/__gtg?categories=read")[0] == 200
                found.setdefault("node answers", time.monotonic() - node.started)
                if good:
                    found["node up"] = time.monotonic() - node.started
            if "haproxy round" not in found and haproxy_unchecked(run) == 0:
                found["haproxy round"] = time.monotonic() - haproxy.started
        except OSError:
            pass
        time.sleep(0.05)
    if "node up" not in found or "haproxy round" not in found:
        raise RuntimeError(f"no full round of {targets} targets within 120 s: {found}")


def window(run, node, haproxy, exporter, targets, seconds):
    """CPU of each for one probe, all of them at work at once."""
    processes = [p for p in (node, haproxy, exporter) if p]
    samples, served, began = metrics(), farm_count(), time.monotonic()
    cpu = [p.cpu() for p in processes]
    scraped = 0
    if exporter:
        load = wrk(run, "http://127.0.0.1:9115", seconds, connections=6, script=BLACKBOX % targets, name="scrapes")
        if load["errors"]:
            raise RuntimeError(f"blackbox_exporter: {load['errors']} errors")
        scraped = load["requests"]
    else:
        time.sleep(seconds)
    used = [p.cpu() - before for p, before in zip(processes, cpu)]
    took = time.monotonic() - began
    served, after = farm_count() - served - 1, metrics()
    own = probes(after) - probes(samples)
    name = "bellwether_probe_cpu_seconds_total"
    found = {
        "rate": own / took, "node": used[0] / own * 1e6, "node cpu": used[0] / took,
        "node probing": (after.get(name, 0) - samples.get(name, 0)) / own * 1e6,
        "haproxy rate": (served - own - scraped) / took, "haproxy": used[1] / max(1, served - own - scraped) * 1e6,
        "haproxy cpu": used[1] / took,
    }
    if exporter:
        found |= {"blackbox": used[2] / scraped * 1e6, "blackbox rate": scraped / took}
    return found


def reports(run, options, targets, found):
    """Latency of `/__health` as JSON and as the page; a file of the JSON's size from nginx beside it."""
    body = ask(NODE, "/__health", "application/json")[2]
    with open(f"{run.work}/report.json", "wb") as file:
        file.write(body)
    static = nginx(run, f"static-{targets}", f"""default_type application/json; sendfile on;
server {{ listen 127.0.0.1:{STATIC}; root {run.work}; }}""")
    forms = {"json": (NODE, "/__health", "application/json"), "html": (NODE, "/__health", "text/html"),
             "file": (STATIC, "/report.json", "*/*")}
    times, sizes = {form: [] for form in forms}, {}
    time.sleep(0.3)
    connections = {form: Http(port) for form, (port, _, _) in forms.items()}
    for _ in range(60 if options.quick else 200):
        for form, (_, path, accept) in forms.items():
            began = time.perf_counter()
            status, _, body = connections[form].ask(path, accept)
            times[form].append((time.perf_counter() - began) * 1000)
            sizes[form] = len(body)
            if status != 200:
                raise RuntimeError(f"{form}: status {status}")
    for http in connections.values():
        http.close()
    run.end(static)
    found["reports"], found["report sizes"] = times, sizes


def report(results):
    goals, texts = [], []
    head = ["targets", "every", "probes/s each", "Bellwether, us a probe", "of it on the probing thread", "HAProxy, us a probe",
            "blackbox_exporter, us a probe", "Bellwether / HAProxy"]
    rows = []
    for (targets, period), found in results.items():
        mid = {key: median([w[key] for w in found["windows"]]) for key in found["windows"][0]}
        against = [w["node"] / w["haproxy"] for w in found["windows"]]
        other = f"{mid['blackbox']:.0f} (at {mid['blackbox rate']:.0f}/s)" if "blackbox" in mid else "-"
        rows.append([f"{targets:,}", f"{period} s", f"{mid['rate']:.0f} / {mid['haproxy rate']:.0f}", f"{mid['node']:.1f}",
                     f"{mid['node probing']:.1f}", f"{mid['haproxy']:.1f}", other, spread(against)])
        if (targets, period) in RIVALS:
            goals.append(goal(f"CPU a probe, {targets:,} targets / HAProxy", against, 0.8))
            ratios = [w["node"] / w["blackbox"] for w in found["windows"]]
            goals.append(goal(f"CPU a probe, {targets:,} targets / blackbox_exporter", ratios, 0.1))
    texts.append("### CPU for one fresh-connection probe, all side by side (the whole process's CPU)\n\n" + table(head, rows))
    growth = {targets: found for (targets, period), found in results.items() if period == 10}
    texts.append(grown(growth))
    ten = growth[10_000]
    p99 = quantile(ten["reports"]["json"], 0.99)
    goals.append(["`/__health` JSON of 10,000 targets, p99", f"{p99:.1f} ms", "<= 20 ms", "yes" if p99 <= 20 else "NO"])
    rss = ten["node rss"] / 1e6
    goals.append(["memory of 10,000 targets", f"{rss:.0f} MB", "<= 150 MB", "yes" if rss <= 150 else "NO"])
    return goals, "\n\n".join(texts)


def goal(what, ratios, bound):
    return [what, spread(ratios), f"<= {bound:.2f}", "yes" if median(ratios) <= bound else "NO"]


def grown(growth):
    """How each figure grows: the points, and the exponent over all of them and over the largest two."""
    def line(title, value, unit, digits, scale=1.0):
        points = [(targets, value(found)) for targets, found in growth.items() if value(found) is not None]
        cells = {targets: f"{y * scale:.{digits}f}" for targets, y in points}
        fit = f"{exponent(points):.2f}" if unit != "s" else "-"
        last = f"{exponent(points[-2:]):.2f}" if unit != "s" else "-"
        return [f"{title}, {unit}", *(cells.get(targets, "-") for targets in growth), fit, last]

    def mid(key):
        return lambda found: median([w[key] for w in found["windows"]])

    def took(form, q):
        return lambda found: quantile(found["reports"][form], q) if "reports" in found else None

    rows = [
        line("Bellwether: CPU at a probe each 10 s", mid("node cpu"), "% of a core", 2, 100),
        line("HAProxy: the same", mid("haproxy cpu"), "% of a core", 2, 100),
        line("Bellwether: memory (RSS)", lambda f: f["node rss"], "MB", 1, 1e-6),
        line("Bellwether: its peak", lambda f: f["node peak"], "MB", 1, 1e-6),
        line("HAProxy: memory (RSS)", lambda f: f["haproxy rss"], "MB", 1, 1e-6),
        line("`/__health` JSON p50", took("json", 0.5), "ms", 2),
        line("`/__health` JSON p99", took("json", 0.99), "ms", 2),
        line("`/__health` HTML p50", took("html", 0.5), "ms", 2),
        line("`/__health` HTML p99", took("html", 0.99), "ms", 2),
        line("nginx, a file of the JSON's size, p50", took("file", 0.5), "ms", 2),
        line("nginx, the same, p99", took("file", 0.99), "ms", 2),
        line("Bellwether: start to first answer", lambda f: f["node answers"], "s", 2),
        line("Bellwether: start to two good results of every target (all up)", lambda f: f["node up"], "s", 1),
        line("HAProxy: start to a check of every server", lambda f: f["haproxy round"], "s", 1),
    ]
    head = ["what", *(f"{targets:,}" for targets in growth), "exponent, all", "exponent, last two"]
    return "### Growth with the number of targets (y ~ targets ^ exponent, least squares over logarithms)\n\n" + table(head, rows)
