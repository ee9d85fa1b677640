"""Hands and eyes of docker/test/walk.py: docker, HTTP and bounded waits, and a client that asks through HAProxy all along.
What is done and what must be seen is left to walk.py. Only the standard library."""

import collections
import http.client
import json
import subprocess
import threading
import time

NODES = {"east": ["east-1", "east-2"], "west": ["west-1", "west-2"]}


class Failed(Exception):
    """Something was not as it must be."""


def wait(what, bound, look, good=bool):
    """Looks again and again until it is good; returns what was seen and how long that took."""
    start, seen = time.monotonic(), None
    while True:
        try:
            seen = look()
            if good(seen):
                return seen, time.monotonic() - start
        except (OSError, http.client.HTTPException, subprocess.CalledProcessError, ValueError, KeyError) as error:
            seen = error
        if time.monotonic() - start > bound:
            raise Failed(f"not within {bound} s: {what}; last seen: {seen}")
        time.sleep(0.1)


def get(port, path, timeout=5, accept="*/*"):
    """One request on a connection of its own: status, headers, body as text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Accept": accept, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode(errors="replace")
    finally:
        connection.close()


class World:
    """One compose project."""

    def __init__(self, project):
        self.project = project
        self.ids = {}

    def docker(self, *words, check=True):
        """Runs docker; its standard output."""
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr.strip())
        return done.stdout.strip()

    def id(self, service):
        """A service's container, running or not."""
        if service not in self.ids:
            label = "label=com.docker.compose."
            found = self.docker("ps", "-aq", "--filter", f"{label}project={self.project}", "--filter", f"{label}service={service}")
            if len(found.split()) != 1:
                raise Failed(f"{service} has not one container but {found.split()}")
            self.ids[service] = found
        return self.ids[service]

    def run(self, service, *words):
        """Runs a command inside a container."""
        return self.docker("exec", self.id(service), *words)

    def state(self, service):
        """`healthy` and the like where there is a health check, else `running`, `exited 0` and the like."""
        form = "{{.State.Status}} {{.State.ExitCode}}{{if .State.Health}} {{.State.Health.Status}}{{end}}"
        status, code, *health = self.docker("inspect", "-f", form, self.id(service)).split()
        if status != "running":
            return f"{status} {code}"
        return health[0] if health else status

    def node(self, name):
        """What a node says of itself."""
        return json.loads(self.run(name, "bellwether", "get", "node", "--output", "json"))

    def target(self, node, name):
        """A target's health, as one node sees it."""
        return json.loads(self.run(node, "bellwether", "get", "target", name, "--output", "json"))["health"]["state"]

    def ready(self, node):
        """Does the node take requests?"""
        done = subprocess.run(["docker", "exec", self.id(node), "bellwether", "health", "--ready"], capture_output=True, check=False)
        return done.returncode == 0

    def leader(self, region):
        """The node of a region that leads, by its own word."""
        leaders = [name for name in NODES[region] if self.node(name)["role"] == "leader"]
        if len(leaders) != 1:
            raise ValueError(f"{region} has the leaders {leaders}")
        return leaders[0]

    def etcdctl(self, *words, member="etcd-1"):
        """etcdctl, inside an etcd container."""
        return self.run(member, "etcdctl", *words)

    def cut(self, service, network="etcd"):
        """Takes a container off a network."""
        self.docker("network", "disconnect", f"{self.project}_{network}", self.id(service))

    def join(self, service, network="etcd"):
        """Puts it on again, under its name."""
        self.docker("network", "connect", "--alias", service, f"{self.project}_{network}", self.id(service))


class Client(threading.Thread):
    """Asks through HAProxy about twenty times a second, one thing after the other, and keeps what went wrong. A failed answer is
    none, or none of 200; a wrong one comes from another service or region than it must. A 503 of /__gtg is an answer while
    `free` has been called and the regions have not settled."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.asked = collections.Counter()
        self.failed, self.wrong = [], []
        self.slowest = 0.0
        # The regions that may answer, for each category; None: any.
        self.may = {"read": None, "write": None}
        self.seen = {"read": None, "write": None}

    def run(self):
        asks = [("read", "/demo/articles-1/"), ("write", "/demo/orders-1/"), ("read", "/__gtg?categories=read"),
                ("read", "/demo/search-1/"), ("write", "/demo/payments-1/"), ("read", "/__health")]
        turn = 0
        while not self.stop.is_set():
            category, path = asks[turn % len(asks)]
            turn += 1
            self.ask(category, path)
            self.stop.wait(0.05)

    def ask(self, category, path):
        """One request, judged."""
        start = time.monotonic()
        with self.lock:
            may_before = self.may[category]
        try:
            status, headers, body = get(self.port, path, timeout=10)
        except (OSError, http.client.HTTPException) as error:
            status, headers, body = None, {}, repr(error)
        took = time.monotonic() - start
        region = headers.get("X-Region")
        with self.lock:
            self.asked[path] += 1
            self.slowest = max(self.slowest, took)
            self.seen[category] = region
            note = f"{time.strftime('%H:%M:%S')} {path} from {region}: {status} {body.strip()[:150]}"
            service = path.split("/")[2] if path.startswith("/demo/") else None
            # While a verdict changes, the region that is about to be left says so, truly.
            verdict = path.startswith("/__gtg") and status == 503 and (may_before is None or self.may[category] is None)
            if status != 200 and not verdict:
                self.failed.append(note)
            elif service and f"This is API: {service}" not in body:
                self.wrong.append(note)
            elif may_before is not None and self.may[category] is not None and region not in may_before | self.may[category]:
                self.wrong.append(f"{note} (must come from {self.may[category]})")

    def free(self):
        """From now on any region may answer."""
        with self.lock:
            self.may = {"read": None, "write": None}

    def settle(self, read, write):
        """Waits until HAProxy has these regions answer; from then on only they may."""
        for category, region in (("read", read), ("write", write)):
            wait(f"{category} is answered by {region}", 20, lambda c=category: self.seen[c], lambda seen, r=region: seen == r)
        with self.lock:
            self.may = {"read": {read}, "write": {write}}

    def figures(self):
        """How many were asked, failed, wrong, so far."""
        with self.lock:
            return sum(self.asked.values()), len(self.failed), len(self.wrong)
