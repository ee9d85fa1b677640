"""Processes that a benchmark starts: their CPU time and memory, and their end. Each is ended by its own id."""

import os
import signal
import subprocess
import time


class Process:
    """One started process. Its output goes to a file of its own."""

    def __init__(self, name, command, work, core=None, env=None):
        self.name = name
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        self.log = os.path.join(work, f"{name}.log")
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=None if env is None else {**os.environ, **env},
            )
        self.started = time.monotonic()

    def pids(self):
        """Its own id and those of its children (nginx has workers)."""
        found = [self.child.pid]
        for pid in found:
            try:
                with open(f"/proc/{pid}/task/{pid}/children") as children:
                    found.extend(int(child) for child in children.read().split())
            except OSError:
                pass
        return found

    def cpu(self):
        """Seconds of CPU, user and system, to the nanosecond: the kernel's clock of that process."""
        total = 0.0
        for pid in self.pids():
            try:
                total += time.clock_gettime((~pid << 3) | 2)
            except OSError:
                pass
        return total

    def rss(self, field="VmRSS"):
        """Memory in bytes."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as status:
                    total += sum(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))
            except OSError:
                pass
        return total

    def check(self):
        if self.child.poll() is not None:
            with open(self.log, errors="replace") as log:
                raise RuntimeError(f"{self.name} ended ({self.child.returncode}): {log.read()[-2000:]}")

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Processes:
    """All that run; ended in the reverse order at the end of the `with`, however it ends."""

    def __init__(self, work):
        self.work = work
        self.all = []

    def start(self, name, command, **more):
        process = Process(name, command, self.work, **more)
        self.all.append(process)
        return process

    def end(self, *processes):
        for process in processes:
            process.end()
            self.all.remove(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.all):
            process.end()


def wait_for(what, process, test, seconds=60.0, every=0.02):
    """Waits until `test` gives something true, at most so long; gives that."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        process.check()
        try:
            found = test()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(every)
    raise RuntimeError(f"{process.name}: {what} did not come within {seconds} s")
