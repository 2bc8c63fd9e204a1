"""A real etcd says who the backends are, by TLS and under a name of its own: they come, leave and go, and nothing is lost."""

import os
import subprocess
import time

from stack import VENV, Stack, check, free_ports, http, need, say, until

NAME = "member1.etcd.local"
SEGMENTS = "/skywalking.v3.TraceSegmentReportService/collect"
# A change is a push over an open stream; the rest is for a loaded machine.
SECONDS = 5


def run():
    need("etcd")
    registry = Registry()
    with Stack(backends=registry.start, config=registry.config) as stack:
        try:
            converse(stack, registry)
        finally:
            registry.stop()


class Registry:
    """One member that wants to know who asks, and is reached by another name than its certificate's."""

    def __init__(self):
        self.client, self.peer = free_ports(2)
        self.config = f"""
to:
  etcd:
    members: 127.0.0.1:{self.client}
    prefix: oap/
    tls: {{ ca: ca.pem, certificate: us.pem, key: us.key, server_name: {NAME} }}
"""

    def start(self, stack):
        """Starts it and the collectors, and registers the first of them."""
        import trustme

        self.stack, self.directory = stack, stack.directory
        ca = trustme.CA()
        ca.cert_pem.write_to_path(self.directory / "ca.pem")
        for file, name in (("member", NAME), ("us", "switchyard")):
            issued = ca.issue_cert(name)
            issued.private_key_pem.write_to_path(self.directory / f"{file}.key")
            issued.cert_chain_pems[0].write_to_path(self.directory / f"{file}.pem")
        self.run()
        stack.start_collectors()
        self.put("a")
        return []

    def run(self):
        url = f"https://127.0.0.1:{self.client}"
        peers = f"http://127.0.0.1:{self.peer}"
        command = [str(VENV / "bin" / "etcd"), "--data-dir", str(self.directory / "etcd"), "--log-level", "warn"]
        command += ["--listen-client-urls", url, "--advertise-client-urls", url]
        command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"]
        command += ["--cert-file", str(self.directory / "member.pem"), "--key-file", str(self.directory / "member.key")]
        command += ["--client-cert-auth", "--trusted-ca-file", str(self.directory / "ca.pem")]
        self.process = self.stack.start("etcd", command)
        until(20, "etcd answers", lambda: self.ask("get", "nothing", fail=False) is not None)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=10)

    def ask(self, *words, fail=True):
        command = [str(VENV / "bin" / "etcdctl"), "--endpoints", f"https://127.0.0.1:{self.client}"]
        # etcdctl itself cannot be told the member's name.
        command += ["--insecure-skip-tls-verify", "--insecure-transport=false", "--command-timeout", "2s"]
        command += ["--cert", str(self.directory / "us.pem"), "--key", str(self.directory / "us.key")]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command + list(words), capture_output=True, text=True, timeout=30, env=environment)
        if done.returncode != 0 and not fail:
            return None
        check(done.returncode == 0, f"etcdctl {words}: {done.stdout}{done.stderr}")
        return done.stdout

    def put(self, name, value="{}"):
        self.ask("put", f"oap/{name}", value.format(f"127.0.0.1:{self.stack.collector_ports[name]}"))


def converse(stack, registry):
    shown = lambda: {each["name"]: each["state"] for each in stack.snapshot()["backends"]}

    def becomes(what, *names, state=None):
        start = time.monotonic()
        holds = lambda: set(shown()) == set(names) and (state is None or shown()[state[0]] == state[1])
        until(SECONDS, what, holds, probe=lambda: shown())
        say(what, after=f"{time.monotonic() - start:.1f} s", backends=",".join(sorted(shown())))

    def got(name):
        return stack.counts(name)["methods"].get(SEGMENTS, {}).get("messages", 0)

    becomes("one key, one backend", "a")
    command = [os.environ["SWITCHYARD"], "agents", "--to", f"127.0.0.1:{stack.agents}", "--connections", "2"]
    command += ["--streams", "4", "--rate", "500", "--duration", "20s", "--json"]
    load = stack.start("load", command)
    until(10, "a gets messages", lambda: got("a") > 0)

    registry.put("b")
    registry.put("c", '{{"Op":0,"Addr":"{}","Metadata":null}}')
    becomes("an address and gRPC's naming", "a", "b", "c")
    until(SECONDS, "the new ones get messages", lambda: got("b") > 0 and got("c") > 0)

    registry.put("b", '{{"endpoint":"{}","leaving":true}}')
    becomes("one signs off", "a", "b", "c", state=("b", "leaving"))
    quiet_since(lambda: got("b"), "b")
    registry.ask("del", "oap/c")
    becomes("a key is deleted", "a", "b")
    quiet_since(lambda: got("c"), "c")

    registry.stop()
    time.sleep(1)
    check(set(shown()) == {"a", "b"}, f"without etcd the last good set stays, it is {shown()}")
    registry.run()
    registry.put("c")
    becomes("etcd is back", "a", "b", "c")
    registry.ask("put", "oap/d", "nowhere")
    registry.ask("del", "oap/", "--prefix")
    until(SECONDS, "the last key is gone and somebody stays", lambda: "gives no backends" in said(stack))
    check(shown(), "a pool is never left with nobody")
    check("the value of oap/d is no backend" in said(stack), "a value that does not read is named")

    code = load.wait(timeout=60)
    check(code == 0, f"the agents ended with {code}: {stack.said('load')}")
    stack.assert_conserved()
    stack.assert_ends_well()
    named_otherwise(stack, registry)


def quiet_since(count, name):
    """It gets nothing more: what was on its way has arrived, and then the count stands still."""
    time.sleep(1)
    before = count()
    time.sleep(1)
    check(count() == before, f"{name} still gets messages")


def said(stack):
    return stack.said("gateway", "out") + stack.said("gateway", "err")


def named_otherwise(stack, registry):
    """Without its name the member is not believed, and the message says what to write."""
    file = stack.directory / "nameless.yaml"
    file.write_text(registry.config.replace(f", server_name: {NAME}", ""))
    prometheus = free_ports(1)[0]
    command = [os.environ["SWITCHYARD"], "run", "--config", str(file), "--agents", "127.0.0.1:0", "--access-logs", "off"]
    command += ["--metrics", "off", "--admin", "off", "--prometheus", f"127.0.0.1:{prometheus}"]
    stack.start("nameless", command)
    words = lambda: stack.said("nameless", "out") + stack.said("nameless", "err")
    until(15, "the wrong name is told", lambda: "write that name as `server_name`" in words(), probe=words)
    check(NAME in words() and "127.0.0.1" in words(), words())
    try:
        http(prometheus, "/ready")
    except OSError as refused:
        say("a member of another name", ready=str(refused))
    else:
        raise AssertionError("ready without a backend")
