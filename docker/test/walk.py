"""scripts/compose-test's walk: does to a running compose project what a user would, and prints what came of each step. A client
asks through HAProxy all along (world.py). Exits with 1 at the first step that fails, or where the client was failed.

The project's name and its published ports come by COMPOSE_PROJECT_NAME, WORLD_PORT, EAST_PORT, WEST_PORT, GRAPHITE_PORT,
PROMETHEUS_PORT; what /__build-info must say by COMMIT and VERSION."""

import json
import os
import subprocess
import sys
import time
import urllib.parse

from world import NODES, Client, Failed, World, get, wait

ROOT = "/ft"
WORLD, EAST, WEST, GRAPHITE, PROMETHEUS = (
    int(os.environ[f"{name}_PORT"]) for name in ("WORLD", "EAST", "WEST", "GRAPHITE", "PROMETHEUS"))
REGION_PORT = {"east": EAST, "west": WEST}
LEFT_OUT = ["grafana"]
# Steps take turns with articles-1 and articles-2: one that turns three times within 20 results is flapping, and is held down.
# Two probes of a target lie this far apart at most, and a changing one is asked each second.
NOTICED = 25


def must(truth, why):
    """A plain check."""
    if not truth:
        raise Failed(why)


def gtg(region, category):
    """A region's verdict: status and text."""
    status, _, body = get(REGION_PORT[region], f"/__gtg?categories={category}")
    return status, body.strip()


def flip(region, service):
    """Makes a demo service ill, or well again, and looks that it has."""
    before = get(REGION_PORT[region], f"/demo/{service}/health")[0]
    status, _, body = get(REGION_PORT[region], f"/demo/{service}/health/flip")
    must(status == 200, f"flip of {service} in {region}: {status} {body}")
    after = get(REGION_PORT[region], f"/demo/{service}/health")[0]
    must({before, after} == {200, 503}, f"flip of {service} in {region}: /health answered {before} before it and {after} after it")


class Walk:
    """The steps, in their order, and what they share."""

    def __init__(self):
        self.world = World(os.environ["COMPOSE_PROJECT_NAME"])
        self.client = Client(WORLD)
        self.began = time.time()
        self.last_figures = (0, 0, 0)
        self.number = 0

    def all_see(self, target, state, regions=("east",), bound=NOTICED):
        """Waits until every node of these regions has a target in a state."""
        took = 0
        for node in (n for region in regions for n in NODES[region]):
            _, more = wait(f"{node} sees {target} {state}", bound, lambda n=node: self.world.target(n, target), lambda s: s == state)
            took += more
        return took

    def is_healthy(self):
        """One leader in each region, and a live store everywhere."""
        for region, nodes in NODES.items():
            self.world.leader(region)
            lost = [n for n in nodes if self.world.node(n)["store"] != "ok"]
            if lost:
                raise ValueError(f"{lost} without etcd")
        return True

    def healed(self, bound=30):
        """How long it takes until everything is as it should be."""
        return wait("a leader in each region, etcd seen by all", bound, self.is_healthy)[1]

    # The steps. Each returns what it found, in words.

    def everything_is_up(self):
        """every container is healthy, the catalog is in, a region answers"""
        services = subprocess.run(["docker-compose", "config", "--services"], capture_output=True, text=True, check=True).stdout.split()
        expected = {"tokens": "exited 0", "catalog": "exited 0"}
        for service in sorted(set(services) - set(LEFT_OUT)):
            want = expected.get(service, "healthy")
            wait(f"{service} is {want}", 120, lambda s=service: self.world.state(s), lambda s, w=want: s == w)
        for region in NODES:
            for category in ("read", "write"):
                wait(f"{region} good to go for {category}", 60, lambda r=region, c=category: gtg(r, c), lambda a: a[0] == 200)
        self.healed()
        return f"{len(services) - len(LEFT_OUT)} services; left out for want of a package: {', '.join(LEFT_OUT)}"

    def the_image_is_as_promised(self):
        """not root, read-only, and it says what was built"""
        user = self.world.run("east-1", "id", "-u")
        must(user == "65532", f"the node runs as {user}")
        code = subprocess.run(["docker", "exec", self.world.id("east-1"), "touch", "/usr/nope"], capture_output=True, check=False).returncode
        must(code != 0, "the root file system can be written to")
        said = json.loads(get(EAST, "/__build-info")[2])
        must(said["version"] == os.environ["VERSION"] and said.get("revision") == os.environ["COMMIT"], f"/__build-info: {said}")
        image = self.world.docker("inspect", "-f", "{{.Image}}", self.world.id("east-1"))
        size = int(self.world.docker("image", "inspect", "-f", "{{.Size}}", image))
        label = self.world.docker("image", "inspect", "-f", '{{index .Config.Labels "org.opencontainers.image.revision"}}', image)
        must(label == os.environ["COMMIT"], f"the label says {label!r}")
        return f"uid {user}, {said['version']} at {said['revision']}, image {size / 1e6:.0f} MB (its base included)"

    def through_haproxy(self):
        """the page and the demo services through HAProxy"""
        # HAProxy's own checks see a moment later than this walk that a region has become good.
        for category, path in (("read", "/demo/articles-1/"), ("write", "/demo/orders-1/")):
            wait(f"HAProxy has region east for {category}", 20, lambda p=path: get(WORLD, p),
                 lambda a: a[0] == 200 and a[1].get("X-Region") == "east")
        status, headers, page = get(WORLD, "/", accept="text/html")
        must(status == 200 and "<html" in page and "articles-1" in page, f"the page: {status} {page[:200]}")
        must(headers.get("X-Region") == "east", f"the page comes from {headers.get('X-Region')}")
        for service in ("articles-1", "articles-2", "search-1", "orders-1", "orders-2", "payments-1"):
            status, headers, body = get(WORLD, f"/demo/{service}/")
            must(status == 200 and service in body and headers.get("X-Region") == "east", f"{service}: {status} {body}")
        must(get(WORLD, "/demo/nothing/")[0] == 404, "an unknown service is not 404")
        self.client.start()
        self.client.settle("east", "east")
        return f"page of {len(page) // 1024} KiB, 6 services, all by region east"

    def flip_and_ack(self):
        """a service flipped in east, and acked by etcdctl inside an etcd container"""
        self.client.free()
        flip("east", "orders-1")
        (_, why), noticed = wait("east not good to go for write", NOTICED, lambda: gtg("east", "write"), lambda a: a[0] == 503)
        must("orders-1" in why, f"the reason does not name it: {why}")
        self.client.settle("east", "west")
        must(gtg("west", "write")[0] == 200 and gtg("east", "read")[0] == 200, "more than east's write is out")
        self.client.free()
        self.world.etcdctl("put", f"{ROOT}/healthcheck/orders-1/ack", "known, by the walk")
        _, acked = wait("the ack counts", 10, lambda: gtg("east", "write"), lambda a: a[0] == 200)
        self.client.settle("east", "east")
        flip("east", "orders-1")
        self.all_see("orders-1", "up")
        self.world.etcdctl("del", f"{ROOT}/healthcheck/orders-1/ack")
        return f"503 after {noticed:.1f} s ({why}); write went to west; acked: 200 within {acked * 1000:.0f} ms of etcdctl's end; back to east"

    def leader_killed(self):
        """east's leader killed"""
        leader = self.world.leader("east")
        other = next(n for n in NODES["east"] if n != leader)
        self.world.docker("kill", self.world.id(leader))
        _, took = wait(f"{other} leads", 15, lambda: self.world.node(other), lambda n: n["role"] == "leader")
        must(took < 7, f"another leader only after {took:.1f} s")
        flip("east", "articles-1")
        wait("the new leader probes", NOTICED, lambda: self.world.target(other, "articles-1"), lambda s: s == "down")
        self.world.docker("start", self.world.id(leader))
        _, ready = wait(f"{leader} is ready", 30, lambda: self.world.ready(leader))
        self.healed()
        self.all_see("articles-1", "down")
        flip("east", "articles-1")
        self.all_see("articles-1", "up")
        return f"{other} leads after {took:.1f} s; {leader} started again, ready after {ready:.1f} s"

    def node_cut_from_etcd(self):
        """one node cut from etcd: east's leader"""
        leader = self.world.leader("east")
        other = next(n for n in NODES["east"] if n != leader)
        self.world.cut(leader)
        _, lost = wait(f"{leader} sees that etcd is lost", 15, lambda: self.world.node(leader), lambda n: n["store"] == "lost" and n["role"] != "leader")
        _, took = wait(f"{other} leads", 15, lambda: self.world.node(other), lambda n: n["role"] == "leader")
        flip("east", "articles-2")
        seen = self.all_see("articles-2", "down")
        flip("east", "articles-2")
        self.all_see("articles-2", "up")
        self.world.join(leader)
        return (f"{leader} no leader any more after {lost:.1f} s, {other} leads {took:.1f} s later; both see a flip after {seen:.1f} s; "
                f"healed {self.healed():.1f} s after the cut's end")

    def all_of_etcd_away(self):
        """all of etcd stopped and started"""
        members = [self.world.id(f"etcd-{n}") for n in (1, 2, 3)]
        self.world.docker("kill", *members)
        for node in NODES["east"] + NODES["west"]:
            wait(f"{node} sees that etcd is lost", 20, lambda n=node: self.world.node(n)["store"], lambda s: s == "lost")
        roles = {n: self.world.node(n) for n in NODES["east"]}
        flip("east", "articles-1")
        seen = self.all_see("articles-1", "down")
        flip("east", "articles-1")
        self.all_see("articles-1", "up")
        refused = subprocess.run(["docker", "exec", self.world.id("east-1"), "bellwether", "ack", "articles-1", "-m", "x"],
                                 capture_output=True, text=True, check=False)
        must(refused.returncode == 1 and "503" in refused.stderr, f"an edit without etcd: {refused}")
        self.world.docker("start", *members)
        healed = self.healed(90)
        words = ", ".join(f"{n} {'static leader' if s['static_leader'] else s['role']}" for n, s in roles.items())
        return f"{words}; a flip still seen by both after {seen:.1f} s; an edit refused with 503; healed {healed:.1f} s after etcd's start"

    def region_cut_off(self):
        """region east cut off from west and from etcd"""
        for node in NODES["east"]:
            self.world.cut(node)
        for node in NODES["east"]:
            wait(f"{node} sees that etcd is lost", 20, lambda n=node: self.world.node(n)["store"], lambda s: s == "lost")
        flip("east", "articles-2")
        seen = self.all_see("articles-2", "down")
        must(self.world.target("west-1", "articles-2") == "up", "west took east's service for its own")
        _, told = wait("west says that east is old news", 60, lambda: self.west_of_east(), lambda s: s in ("stale", "unknown"))
        wait("west has a leader", 15, lambda: self.world.leader("west"))
        flip("east", "articles-2")
        self.all_see("articles-2", "up")
        must(gtg("west", "read")[0] == 200 and gtg("east", "read")[0] == 200, "a region's verdict changed by the cut alone")
        for node in NODES["east"]:
            self.world.join(node)
        healed = self.healed()
        _, again = wait("west has east's news again", 30, self.west_of_east, lambda s: s not in ("stale", "unknown"))
        return (f"both of east see a flip after {seen:.1f} s; west shows east as old after {told:.1f} s more; healed {healed:.1f} s after the "
                f"cut's end, news {again:.1f} s later")

    def west_of_east(self):
        """What west says of region east, in a word."""
        regions = json.loads(get(WEST, "/api/v1/regions")[2])
        return next(r["state"] for r in regions if r["name"] == "east")

    def manual_failover(self):
        """manual failover of a region by etcdctl through its overlay, and back"""
        key = f"{ROOT}/regions/east/overlay/healthcheck-categories/read/enabled"
        self.client.free()
        start = time.monotonic()
        self.world.etcdctl("put", key, "false", member="etcd-2")
        self.client.settle("west", "east")
        there = time.monotonic() - start
        must(gtg("east", "read")[0] == 503 and gtg("west", "read")[0] == 200, "the verdicts are not 503 and 200")
        page = get(WORLD, "/", accept="text/html")
        must(page[0] == 200 and page[1].get("X-Region") == "west", f"the page: {page[0]} from {page[1].get('X-Region')}")
        self.client.free()
        start = time.monotonic()
        self.world.etcdctl("del", key, member="etcd-3")
        self.client.settle("east", "east")
        return f"read answered by west {there:.1f} s after etcdctl, by east again {time.monotonic() - start:.1f} s after the key went"

    def rolling_restart(self):
        """every node restarted, one after the other, under load"""
        before, ready = self.client.figures(), []
        for node in NODES["east"] + NODES["west"]:
            self.world.docker("restart", "-t", "20", self.world.id(node))
            _, took = wait(f"{node} is ready", 30, lambda n=node: self.world.ready(n))
            ready.append(took)
        self.healed()
        after = self.client.figures()
        asked, failed = after[0] - before[0], after[1] - before[1]
        return f"{asked} answers meanwhile, {failed} failed; start to ready {max(ready):.1f} s at most"

    def points_in_graphite(self):
        """the points read back from Graphite, and StatsD's figures"""
        def points(path):
            query = urllib.parse.urlencode({"target": path, "from": "-1h", "format": "json"})
            series = json.loads(get(GRAPHITE, f"/render?{query}")[2])
            return [p for p in series[0]["datapoints"] if p[1] >= self.began] if series else []
        def values(path):
            return [p[0] for p in points(path) if p[0] is not None]
        path = "coco.health.demo.west.services.articles-1"
        flip("west", "articles-1")
        wait(f"{path} has a 1", 40, lambda: values(path), lambda v: 1 in v)
        flip("west", "articles-1")
        got, _ = wait(f"{path} ends with 0", 40, lambda: values(path), lambda v: v[-1:] == [0])
        told = f"west articles-1 {len(got)} points, {sum(1 for x in got if x)} of them failed"
        quiet = values("coco.health.demo.west.services.orders-1")
        # Nobody flipped it. On a machine that is too busy a probe may run into its time-out, and then 1 is the truth.
        must(quiet and sum(quiet) * 10 < len(quiet), f"west's orders-1 was never ill, but: {quiet}")
        known = [p[0] for p in points("coco.health.demo.west.services.orders-1")]
        first = next(i for i, v in enumerate(known) if v is not None)
        last = max(i for i, v in enumerate(known) if v is not None)
        holes = sum(1 for v in known[first:last] if v is None)
        names = json.loads(get(GRAPHITE, "/metrics/index.json")[2])
        statsd = [n for n in names if not n.startswith(("coco.", "carbon.")) and "probes" in n]
        must(statsd, f"no figures by StatsD among {len(names)} names")
        return f"{told}; west orders-1, never flipped: {len(quiet)} points, {sum(quiet):.0f} failed, {holes} holes; {len(statsd)} of StatsD's names tell of probes"

    def prometheus_sees_all(self):
        """Prometheus reads every node, and has the alert rules"""
        def up():
            found = json.loads(get(PROMETHEUS, "/api/v1/query?query=up%7Bjob%3D%22bellwether%22%7D%3D%3D1")[2])
            return len(found["data"]["result"])
        wait("four nodes are up", 30, up, lambda n: n == 4)
        leaders = json.loads(get(PROMETHEUS, "/api/v1/query?query=sum%20by(region)(bellwether_leader)")[2])["data"]["result"]
        must(sorted((r["metric"]["region"], r["value"][1]) for r in leaders) == [("east", "1"), ("west", "1")], f"leaders: {leaders}")
        groups = json.loads(get(PROMETHEUS, "/api/v1/rules")[2])["data"]["groups"]
        return f"4 nodes up, one leader a region, {sum(len(g['rules']) for g in groups)} rules"

    def memory(self):
        """what the nodes take"""
        ids = [self.world.id(n) for n in NODES["east"] + NODES["west"]]
        used = self.world.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *ids).splitlines()
        return "memory of the four nodes: " + ", ".join(u.split("/")[0].strip() for u in used)

    def step(self, do):
        """Does one step and prints what came of it."""
        self.number += 1
        start = time.monotonic()
        print(f"{self.number:2}. {do.__doc__}", flush=True)
        try:
            found = do()
        except (Failed, subprocess.CalledProcessError, OSError, ValueError, KeyError) as error:
            said = getattr(error, "stderr", None) or ""
            print(f"    FAILED after {time.monotonic() - start:.1f} s: {error} {said}", flush=True)
            raise Failed from error
        now = self.client.figures()
        asked, failed, wrong = (a - b for a, b in zip(now, self.last_figures))
        self.last_figures = now
        print(f"    ok in {time.monotonic() - start:.1f} s: {found}", flush=True)
        if asked:
            print(f"    the client: {asked} answers, {failed} failed, {wrong} wrong", flush=True)

    def all(self):
        """Every step; the exit code."""
        steps = [self.everything_is_up, self.the_image_is_as_promised, self.through_haproxy, self.flip_and_ack, self.leader_killed,
                 self.node_cut_from_etcd, self.all_of_etcd_away, self.region_cut_off, self.manual_failover, self.rolling_restart,
                 self.points_in_graphite, self.prometheus_sees_all, self.memory]
        well = True
        try:
            for do in steps:
                self.step(do)
        except Failed:
            well = False
        self.client.stop.set()
        asked, failed, wrong = self.client.figures()
        print(f"the client behind HAProxy, all along: {asked} answers, {failed} failed, {wrong} wrong, the slowest {self.client.slowest:.2f} s")
        for note in (self.client.failed + self.client.wrong)[:20]:
            print(f"    {note}")
        return 0 if well and failed == 0 and wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(Walk().all())
