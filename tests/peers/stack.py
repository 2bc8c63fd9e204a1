"""Backends behind a gateway, as processes on free ports of 127.0.0.1, and what they have to tell."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".peers"
COLLECTORS = ("a", "b", "c")


class Skipped(Exception):
    """A peer is not to be had here; the message says why."""


def need(*peers):
    for peer in peers:
        missing = VENV / f"missing-{peer}"
        if missing.exists():
            raise Skipped(missing.read_text().strip())


def check(holds, message):
    if not holds:
        raise AssertionError(message)


def check_each_once(what, expected, found):
    """`found` counts how often each item arrived; one that was filed wrongly is missing here and foreign there."""
    for fault, items in (
        ("missing", expected - found.keys()),
        ("foreign or misfiled", found.keys() - expected),
        ("twice", {item for item, count in found.items() if count > 1}),
    ):
        check(not items, f"{what}: {len(items)} {fault}, among them {sorted(items)[:3]}")


def say(what, **figures):
    print(f"  {what:<32}" + "  ".join(f"{name} {figure}" for name, figure in figures.items()), flush=True)


def until(seconds, what, holds, probe=lambda: ""):
    """The first true answer of `holds`; connection errors count as not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = holds()
            if value:
                return value
        except OSError:
            pass
        check(time.monotonic() < end, f"not within {seconds} s: {what} {probe()}")
        time.sleep(0.1)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def http(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


class Stack:
    """Use as a context; on failure it prints every process's log, at the end nothing is left running.

    The backends are three mock collectors, unless `backends` is a function that gets the stack, starts others and
    returns their ports; none, if `config` says where they are. `config` is what the gateway's file says besides its flags.
    """

    def __init__(self, backends=None, config=""):
        self.directory = Path(tempfile.mkdtemp(prefix="switchyard-peers-"))
        self.processes = []
        self._backends = backends or Stack.start_collectors
        self._config = config
        ports = free_ports(11)
        self.agents, self.access_logs, self.metrics, self.prometheus, self.admin = ports[:5]
        self.collector_ports = dict(zip(COLLECTORS, ports[5:8]))
        self.counts_ports = dict(zip(COLLECTORS, ports[8:11]))

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _start(self):
        ports = self._backends(self)
        command = [os.environ["SWITCHYARD"], "run"]
        if ports:
            command += ["--to", ",".join(f"127.0.0.1:{port}" for port in ports)]
        if self._config:
            file = self.directory / "switchyard.yaml"
            file.write_text(self._config)
            command += ["--config", str(file)]
        self.gateway = self.start(
            "gateway",
            command
            + ["--agents", f"127.0.0.1:{self.agents}", "--access-logs", f"127.0.0.1:{self.access_logs}"]
            + ["--metrics", f"127.0.0.1:{self.metrics}", "--prometheus", f"127.0.0.1:{self.prometheus}"]
            + ["--admin", f"127.0.0.1:{self.admin}"],
        )
        until(10, "the gateway is ready", lambda: http(self.prometheus, "/ready"))

    def start_collectors(self):
        """Starts all of them; returns their ports."""
        for name in COLLECTORS:
            self.start_collector(name)
        return list(self.collector_ports.values())

    def start_collector(self, name):
        """Starts a collector, for the first time or again: on the same port and with the same list of ids."""
        command = [os.environ["SWITCHYARD"], "collector", "--listen", f"127.0.0.1:{self.collector_ports[name]}"]
        command += ["--http", f"127.0.0.1:{self.counts_ports[name]}", "--log", str(self._log_of(name))]
        process = self.start(f"collector-{name}", command)
        until(10, f"collector-{name} is up", lambda: self.counts(name))
        return process

    def __exit__(self, kind, _error, _trace):
        for _, process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for name, process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                print(f"  {name} did not end on SIGTERM", file=sys.stderr)
                process.kill()
                process.wait()
        if kind is not None:
            for name in dict(self.processes):
                for stream in ("out", "err"):
                    text = (self.directory / f"{name}.{stream}").read_text(errors="replace")
                    if text:
                        print(f"--- {name}.{stream}, its end\n{text[-4000:]}", file=sys.stderr)
            print(f"--- all of it is kept in {self.directory}", file=sys.stderr, flush=True)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, name, command, **options):
        """Starts a process whose output goes to files in the stack's directory."""
        with open(self.directory / f"{name}.out", "ab") as out, open(self.directory / f"{name}.err", "ab") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **options)
        self.processes.append((name, process))
        return process

    def said(self, name, stream="out"):
        return (self.directory / f"{name}.{stream}").read_text(errors="replace")

    def process(self, name):
        """The process last started under a name."""
        return dict(self.processes)[name]

    def snapshot(self):
        return json.loads(http(self.admin, "/snapshot"))

    def counts(self, collector):
        return json.loads(http(self.counts_ports[collector], "/counts"))

    def method(self, path):
        """What each collector says about a method."""
        nothing = {"calls": 0, "messages": 0, "discarded": {}, "sources": {}}
        return {name: self.counts(name)["methods"].get(path, nothing) for name in COLLECTORS}

    def sources(self, path):
        """Messages by source and collector."""
        found = {}
        for collector, counted in self.method(path).items():
            for source, filed in counted["sources"].items():
                found.setdefault(source, Counter())[collector] += filed["messages"]
        return found

    def ids(self, path):
        """Every id a collector recorded under a method: (collector, source, id)."""
        for collector in COLLECTORS:
            file = self._log_of(collector)
            for line in file.read_text().splitlines() if file.exists() else ():
                method, source, agent, seq = line.split(" ")
                if method == path:
                    yield collector, source, f"{agent}-{seq}"

    def assert_each_once(self, what, path, expected):
        """`expected` maps ids to sources: each arrives once, on whichever collector, under its own source."""
        until(20, f"all {what} arrive", lambda: sum(1 for _ in self.ids(path)) >= len(expected), probe=self._tell(path))
        found = list(self.ids(path))
        times = Counter(id for _, _, id in found)
        missing = [id for id in expected if id not in times]
        twice = [id for id, count in times.items() if count > 1]
        foreign = [id for id in times if id not in expected]
        misfiled = [entry for entry in found if expected.get(entry[2]) not in (None, entry[1])]
        for fault, ids in (("missing", missing), ("twice", twice), ("foreign", foreign), ("misfiled", misfiled)):
            check(not ids, f"{what}: {len(ids)} {fault}, among them {ids[:5]}")
        by_collector = Counter(collector for collector, _, _ in found)
        say(what, arrived_once=len(found), **{f"collector-{name}": by_collector[name] for name in COLLECTORS})
        return by_collector

    def assert_shared(self, what, by_collector, least):
        total = sum(by_collector.values())
        for name in COLLECTORS:
            share = by_collector[name] / max(total, 1)
            check(share >= least, f"{what}: collector-{name} got {share:.0%} of {total}: {dict(by_collector)}")

    def assert_nothing_discarded(self, path):
        for name, counted in self.method(path).items():
            check(not any(counted["discarded"].values()), f"collector-{name} {path}: {counted['discarded']}")

    def assert_conserved(self, possible_duplicates=range(1)):
        """The gateway's books, once everything is delivered: nothing is lost, and no more said twice than expected."""
        until(15, "nothing is held any more", lambda: self.snapshot()["held"] == 0)
        now = self.snapshot()
        say("/snapshot", **{key: now[key] for key in ("received", "delivered", "held", "lost_total", "possible_duplicates")})
        check(now["lost_total"] == 0, f"lost {now['lost']}")
        check(now["received"] == now["delivered"] + now["held"], "received = delivered + held + lost")
        check(now["possible_duplicates"] in possible_duplicates, f"expected {possible_duplicates} possible duplicates")

    def assert_ends_well(self):
        """SIGTERM, and the exit code of a drain that lost nothing."""
        start = time.monotonic()
        self.gateway.terminate()
        code = self.gateway.wait(timeout=15)
        print("  " + self.said("gateway", "err").strip().splitlines()[-1])
        check(code == 0, f"the gateway ended with {code}")
        say("gateway ends on SIGTERM", took=f"{time.monotonic() - start:.1f} s")

    def _log_of(self, collector):
        return self.directory / f"collector-{collector}.ids"

    def _tell(self, path):
        return lambda: {name: (counted["messages"], counted["sources"]) for name, counted in self.method(path).items()}
