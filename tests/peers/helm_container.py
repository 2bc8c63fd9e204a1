"""Plays a container of a manifest in a network of its own: what is rendered comes in on stdin, figures go out."""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

from stack import check, http, say, until

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
MESSAGES = 500


def main():
    told = json.load(sys.stdin)
    raise_loopback()
    with ExitStack() as ends:
        collector = ["collector", "--listen", told["collector"], "--http", "127.0.0.1:11901"]
        start(ends, [os.environ["SWITCHYARD"], *collector])
        log = ends.enter_context(tempfile.TemporaryFile("w+"))
        # Exactly the manifest's environment: not even a PATH.
        gateway = start(ends, [os.environ["SWITCHYARD"], *told["command"]], env=told["environment"], stderr=log)
        probe = told["container"]["readinessProbe"]["tcpSocket"]["port"]
        until(10, f"the readiness probe of port {probe} succeeds", lambda: connects(probe))
        ports = {port["name"]: port["containerPort"] for port in told["container"]["ports"]}
        until(10, "each port is open", lambda: all(connects(port) for port in ports.values()))
        until(10, "it is ready", lambda: http(ports["prometheus"], "/ready"))
        agents = ["agents", "--to", f"127.0.0.1:{ports['grpc']}", "--messages", str(MESSAGES)]
        sent = subprocess.run([os.environ["SWITCHYARD"], *agents], capture_output=True, text=True, timeout=30)
        check(sent.returncode == 0, f"agents: {sent.stdout}{sent.stderr}")
        until(10, "everything is delivered", lambda: metric(ports["prometheus"], "switchyard_messages_delivered_total") == MESSAGES)
        counted = json.loads(http(11901, "/counts"))
        arrived = sum(method["messages"] for method in counted["methods"].values())
        check(arrived == MESSAGES, f"{arrived} messages arrived of {MESSAGES}")
        say("in satellite's place", probed=probe, metrics=ports["prometheus"], arrived=arrived)
        gateway.send_signal(signal.SIGTERM)
        code = gateway.wait(timeout=15)
        log.seek(0)
        said = log.read()
        check(code == 0, f"it ended with {code}: {said}")
        [ignored] = [line for line in said.splitlines() if "queue setting" in line]
        say("it said", line=ignored)


def raise_loopback():
    request = struct.pack("16sh", b"lo", IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)


def start(ends, command, **options):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
    ends.callback(end, process)
    return process


def end(process):
    if process.poll() is None:
        process.kill()
    process.wait()


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        time.sleep(0.05)
        return False


def metric(port, name):
    lines = http(port, "/metrics").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


if __name__ == "__main__":
    main()
