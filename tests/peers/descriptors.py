"""Where real programs keep what they know of their messages: generated modules, .proto files, their own binary."""

import json
import mmap
import subprocess
import sys
import tempfile
from pathlib import Path

from stack import ROOT, VENV, Skipped, check

# Run by a Python of its own, for two packages may bring different files under one name, which one process cannot load.
DUMP = """
import importlib, pathlib, sys
from google.protobuf import descriptor_pb2
found = {}
def add(file):
    if file.name not in found:
        for needed in file.dependencies:
            add(needed)
        found[file.name] = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
for entry in map(pathlib.Path, sys.path):
    for module in sorted(entry.glob(sys.argv[1])):
        add(importlib.import_module(".".join(module.relative_to(entry).with_suffix("").parts)).DESCRIPTOR)
sys.stdout.buffer.write(descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString())
"""


class Schema:
    """Every message and service of some files, in a pool of their own."""

    def __init__(self, name, files):
        from google.protobuf import descriptor_pool

        self.name = name
        pool = descriptor_pool.DescriptorPool()
        self.messages, self.services = {}, {}
        for file in files.file:
            pool.Add(file)
        for file in files.file:
            loaded = pool.FindFileByName(file.name)
            self.services |= {service.full_name: service for service in loaded.services_by_name.values()}
            for message in loaded.message_types_by_name.values():
                self._add(message)

    def _add(self, message):
        if not message.GetOptions().map_entry:
            self.messages[message.full_name] = message
            for nested in message.nested_types:
                self._add(nested)


def generated(name, modules, folder=None):
    """From the modules that match a pattern below any of Python's folders, or below `folder` before those."""
    from google.protobuf import descriptor_pb2

    done = subprocess.run(
        [sys.executable, "-c", DUMP, modules],
        env={"PYTHONPATH": str(folder or "")},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    files = descriptor_pb2.FileDescriptorSet.FromString(done.stdout)
    check(files.file, f"{name}: no module {modules}")
    return Schema(name, files)


def compiled(name, folder):
    """From every .proto file below a folder."""
    from google.protobuf import descriptor_pb2

    files = sorted(str(file.relative_to(folder)) for file in Path(folder).rglob("*.proto"))
    check(files, f"{name}: no .proto file in {folder}")
    with tempfile.NamedTemporaryFile() as out:
        well_known = next(VENV.glob("lib/python3*/site-packages/grpc_tools/_proto"))
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(folder), "-I", str(well_known)]
        command += ["--include_imports", f"--descriptor_set_out={out.name}", *files]
        subprocess.run(command, check=True, timeout=60)
        return Schema(name, descriptor_pb2.FileDescriptorSet.FromString(out.read()))


def crate(name):
    """The .proto files that come with the agent crate; it compiles its own from them."""
    manifest = ROOT / "tests" / "rust-agent" / "Cargo.toml"
    command = ["cargo", "metadata", "--quiet", "--locked", "--format-version", "1", "--manifest-path", str(manifest)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Skipped(f"cargo metadata failed: {done.stderr.strip().splitlines()[-1]}")
    package = next(each for each in json.loads(done.stdout)["packages"] if each["name"] == "skywalking")
    folder = Path(package["manifest_path"]).parent / "skywalking-data-collect-protocol"
    return compiled(name, folder)


def embedded(name, binary, roots):
    """From a program in C++: protobuf's runtime keeps each file's descriptor, serialized, in the binary."""
    from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

    found = {}
    for module in (any_pb2, descriptor_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        found[module.DESCRIPTOR.name] = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)

    def add(path):
        if path in found:
            return
        file = descriptor_pb2.FileDescriptorProto.FromString(serialized_in(image, path))
        for needed in file.dependency:
            add(needed)
        found[path] = file

    with open(binary, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        for root in roots:
            add(root)
    return Schema(name, descriptor_pb2.FileDescriptorSet(file=found.values()))


def serialized_in(image, path):
    """A FileDescriptorProto begins with its name as field 1 and ends where no field of it follows."""
    wanted = path.encode()
    at = -1
    while True:
        at = image.find(b"\n" + bytes([len(wanted)]) + wanted, at + 1)
        check(at >= 0, f"no descriptor of {path} in the binary")
        end, last = at, 0
        while image[end] & 7 == 2 and last <= image[end] >> 3 <= 12:
            last = image[end] >> 3
            length, end = varint(image, end + 1)
            end += length
        # A mere mention of the name has no package (field 2) behind it.
        if end - at > 2 + len(wanted):
            return image[at:end]


def varint(image, at):
    value = shift = 0
    while True:
        byte = image[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
