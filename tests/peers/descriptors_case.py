"""The files in proto/ against the descriptors that real programs carry: structure, and values there and back."""

from descriptors import compiled, crate, embedded, generated
from stack import ROOT, VENV, check, need, say

CRATE = "the crate skywalking"
# Every alternative of every oneof is tried; no oneof here has more.
VARIANTS = 8
REPEATS = 2

# What our files declare under a name of their own, because they say a part of what the real one says.
REAL_NAMES = {
    "envoy.service.metrics.v3.MetricFamily": "io.prometheus.client.MetricFamily",
    "envoy.service.accesslog.v3.HTTPAccessLogEntry": "envoy.data.accesslog.v3.HTTPAccessLogEntry",
    "envoy.service.accesslog.v3.HTTPRequestProperties": "envoy.data.accesslog.v3.HTTPRequestProperties",
    "envoy.service.accesslog.v3.TCPAccessLogEntry": "envoy.data.accesslog.v3.TCPAccessLogEntry",
}
# Envoy's v2 services are served with v3 messages: what is said below must hold for the old ones, too.
OLD_NAMES = (
    ("envoy.service.accesslog.v3.", "envoy.service.accesslog.v2."),
    ("envoy.config.core.v3.", "envoy.api.v2.core."),
    ("envoy.data.accesslog.v3.", "envoy.data.accesslog.v2."),
)
# The crate brings the protocol as it was in 2022; what came later is checked against the other packages.
OF_2022 = {
    "skywalking.v3.Event.layer = 9",
    "skywalking.v3.EBPFProcessPingPkgList.ebpfAgentID = 2",
    "skywalking.v3.EBPFProfilingData.offCPU = 3",
    "skywalking.v3.ServiceMeshMetricService/collect",
}
# Newer than every package that can be installed; checked once, by hand, against the protocol's own repository.
UNKNOWN = set(
    """
    satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs
    skywalking.v10.AsyncProfilerTask/collect skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands
    skywalking.v10.AsyncProfilerData skywalking.v10.AsyncProfilerMetaData
    skywalking.v10.AsyncProfilerCollectionResponse skywalking.v10.AsyncProfilerTaskCommandQuery
    skywalking.v10.PprofTask/collect skywalking.v10.PprofTask/getPprofTaskCommands
    skywalking.v10.PprofData skywalking.v10.PprofMetaData
    skywalking.v10.PprofCollectionResponse skywalking.v10.PprofTaskCommandQuery
    skywalking.v3.BrowserPerfService/collectResourcePerfData skywalking.v3.BrowserResourcePerfData
    skywalking.v3.BrowserPerfService/collectWebInteractionsPerfData skywalking.v3.BrowserWebInteractionsPerfData
    skywalking.v3.BrowserPerfService/collectWebVitalsPerfData skywalking.v3.BrowserWebVitalsPerfData
    skywalking.v3.ContinuousProfilingService/queryPolicies skywalking.v3.ContinuousProfilingService/reportProfilingTask
    skywalking.v3.ContinuousProfilingPolicyQuery skywalking.v3.ContinuousProfilingServicePolicyQuery
    skywalking.v3.ContinuousProfilingReport skywalking.v3.EBPFOffCPUProfiling
    skywalking.v3.ProfileTask/goProfileReport skywalking.v3.GoProfileData
    """.split()
)


def run():
    need("protoc", "otel", "skywalking", "envoy", "xds")
    ours = compiled("proto/", ROOT / "proto")
    envoy = next(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    roots = [f"envoy/service/{service}.proto" for service in ("accesslog/v3/als", "metrics/v3/metrics_service")]
    schemas = [
        (generated("opentelemetry-proto", "opentelemetry/proto/**/*_pb2.py"), REAL_NAMES.get),
        (generated("apache-skywalking", "skywalking/protocol/**/*_pb2.py"), REAL_NAMES.get),
        (crate(CRATE), REAL_NAMES.get),
        (embedded("the program envoy", envoy, roots), REAL_NAMES.get),
        (generated("xds-protos", "envoy/service/accesslog/v2/*_pb2.py", VENV / "xds"), old_name),
    ]
    known, differences, older = set(), [], None
    for schema, rename in schemas:
        pairing = Pairing(ours, schema, rename)
        pairing.compare_structure()
        if schema.name == CRATE:
            older = pairing.forgive(OF_2022)
        # What is declared otherwise cannot be compared value by value.
        if not pairing.differences:
            pairing.exchange_values()
        differences += [f"{what}: {how} (for {schema.name})" for what, how in pairing.differences]
        known |= pairing.known
        say(f"proto/ and {schema.name}", **pairing.figures)
    for difference in differences:
        print(f"  {difference}")
    check(not differences, f"{len(differences)} differences between proto/ and the real descriptors")
    check(older == OF_2022, f"{CRATE} is no longer so old: {OF_2022 - older}")
    methods = {f"{name}/{method.name}" for name, each in ours.services.items() for method in each.methods}
    declared = methods | set(ours.messages)
    unknown = {name for name in declared - known if not name.startswith("google.protobuf.")}
    say("in no package", messages_and_methods=len(unknown))
    check(not unknown - UNKNOWN, f"in no package, check by hand and list as UNKNOWN: {sorted(unknown - UNKNOWN)}")
    check(not UNKNOWN - unknown, f"no longer UNKNOWN: {sorted(UNKNOWN - unknown)}")


def old_name(name, _same):
    name = REAL_NAMES.get(name, name)
    for new, old in OLD_NAMES:
        name = name.replace(new, old)
    return name


class Pairing:
    """Our files and one schema, as far as both speak of the same things."""

    def __init__(self, ours, theirs, rename):
        self.ours, self.theirs = ours, theirs
        self.rename = lambda name: rename(name, name)
        self.messages = {
            name: (message, theirs.messages[self.rename(name)])
            for name, message in ours.messages.items()
            if self.rename(name) in theirs.messages and not name.startswith("google.protobuf.")
        }
        self.known = set(self.messages)
        self.differences, self.torn = [], set()
        self.figures = {"messages": len(self.messages), "fields": 0, "methods": 0, "exchanged": 0}

    def differ(self, what, our, their):
        if our != their:
            self.differences.append((what, f"{our} in proto/, {their} there"))

    def forgive(self, expected):
        """Takes differences off the list and their messages out of the exchange; returns those that were there."""
        forgiven = {what for what, _ in self.differences if what in expected}
        self.differences = [(what, how) for what, how in self.differences if what not in expected]
        self.torn = {what.split(" = ")[0].rsplit(".", 1)[0] for what in forgiven}
        return forgiven

    # --- structure

    def compare_structure(self):
        check(self.messages, f"proto/ and {self.theirs.name} have no message in common")
        for message, their in self.messages.values():
            for field in message.fields:
                self.figures["fields"] += 1
                self.compare_field(field, their.fields_by_number.get(field.number))
            self.compare_oneofs(message, their)
        for name, service in self.ours.services.items():
            their = self.theirs.services.get(self.rename(name))
            for method in service.methods if their else ():
                if method.name in their.methods_by_name:
                    self.figures["methods"] += 1
                    self.known.add(f"{name}/{method.name}")
                    their_method = their.methods_by_name[method.name]
                    self.differ(f"{name}/{method.name}", self.signature(method), signature(their_method))

    def compare_field(self, field, their):
        what = f"{field.full_name} = {field.number}"
        if their is None:
            self.differ(what, "declared", "not")
            return
        self.differ(what, field.name, their.name)
        self.differ(what, type_of(field, self.rename), type_of(their, str))
        if field.enum_type and their.enum_type:
            names = {value.number: value.name for value in field.enum_type.values}
            self.differ(what, names, {value.number: value.name for value in their.enum_type.values})

    def compare_oneofs(self, message, their):
        """What excludes each other there does so here, and nothing else. (We may know one alternative of many.)"""
        for field in message.fields:
            for other in message.fields:
                both = [their.fields_by_number.get(each.number) for each in (field, other)]
                if field.number < other.number and all(both):
                    what = f"{message.full_name}: {field.name} excludes {other.name}"
                    self.differ(what, exclude(field, other), exclude(*both))

    def signature(self, method):
        ask, answer, *streams = signature(method)
        return self.rename(ask), self.rename(answer), *streams

    # --- values

    def exchange_values(self):
        from google.protobuf import message_factory

        for name, (message, their_message) in self.messages.items():
            if name in self.torn:
                continue
            our_class, their_class = map(message_factory.GetMessageClass, (message, their_message))
            for variant in range(VARIANTS):
                self.to_them(name, filled(our_class(), variant), our_class, their_class)
                self.from_them(name, filled(their_class(), variant), our_class, their_class)
                self.figures["exchanged"] += 2

    def to_them(self, name, sent, our_class, their_class):
        """They find every field we wrote, with its value and no other."""
        got = their_class.FromString(sent.SerializeToString())
        self.same(name, sent, got)
        whole = got.ByteSize()
        got.DiscardUnknownFields()
        self.differ(f"{name}: size of what they know", got.ByteSize(), whole)
        self.differ(f"{name}: there and back", our_class.FromString(got.SerializeToString()) == sent, True)

    def from_them(self, name, sent, our_class, their_class):
        """We find every field that our files know, and what they do not know survives us."""
        got = our_class.FromString(sent.SerializeToString())
        self.same(name, got, sent)
        self.finds_all(name, got, sent)
        self.differ(f"{name}: back and there", their_class.FromString(got.SerializeToString()) == sent, True)

    def same(self, path, ours, theirs):
        """Every field set in our message has the same value in theirs."""
        for field, value in ours.ListFields():
            their = getattr(theirs, theirs.DESCRIPTOR.fields_by_number[field.number].name)
            here = f"{path}.{field.name}"
            if is_map(field):
                self.differ(f"{here}: keys", sorted(value), sorted(their))
                pairs = [(value[key], their[key]) for key in value if key in their]
            elif field.is_repeated:
                self.differ(f"{here}: length", len(value), len(their))
                pairs = list(zip(value, their))
            else:
                pairs = [(value, their)]
            for one, other in pairs:
                if field.message_type and hasattr(one, "ListFields"):
                    self.same(here, one, other)
                else:
                    self.differ(here, one, other)

    def finds_all(self, path, ours, theirs):
        """Every field set in theirs and known to ours is set in ours."""
        known = {field.number: value for field, value in ours.ListFields()}
        for field, value in theirs.ListFields():
            if field.number not in ours.DESCRIPTOR.fields_by_number:
                continue
            self.differ(f"{path}.{field.name} is found", field.number in known, True)
            if field.message_type and not is_map(field) and field.number in known:
                ours_here = known[field.number]
                for one, other in zip(ours_here, value) if field.is_repeated else [(ours_here, value)]:
                    self.finds_all(f"{path}.{field.name}", one, other)


def type_of(field, rename):
    """What decides how bytes are read."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    kind = FieldDescriptorProto.Type.Name(field.type)
    if field.message_type:
        kind = rename(field.message_type.full_name)
    elif field.enum_type:
        kind = field.enum_type.name
    return kind, "repeated" if field.is_repeated else "single"


def exclude(one, other):
    return one.containing_oneof is not None and one.containing_oneof == other.containing_oneof


def signature(method):
    return (
        method.input_type.full_name,
        method.output_type.full_name,
        f"client streaming {method.client_streaming}",
        f"server streaming {method.server_streaming}",
    )


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def filled(message, variant, above=()):
    """Sets every field to a value of its own; of each oneof the alternative whose turn it is."""
    descriptor = message.DESCRIPTOR
    above = (*above, descriptor.full_name)
    for field in descriptor.fields:
        oneof = field.containing_oneof
        check(oneof is None or len(oneof.fields) <= VARIANTS, f"{field.full_name}: more alternatives than variants")
        if oneof and oneof.fields[variant % len(oneof.fields)].number != field.number:
            continue
        if is_map(field):
            entry = field.message_type.fields_by_name
            keys = [value_of(entry["key"], variant + n) for n in range(REPEATS)]
            for key in keys:
                if entry["value"].message_type is None:
                    getattr(message, field.name)[key] = value_of(entry["value"], variant)
                elif entry["value"].message_type.full_name not in above:
                    filled(getattr(message, field.name)[key], variant, above)
        elif field.message_type is not None:
            # A message inside itself says nothing new.
            if field.message_type.full_name in above:
                continue
            value = getattr(message, field.name)
            for each in [value.add() for _ in range(REPEATS)] if field.is_repeated else [value]:
                each.SetInParent()
                filled(each, variant, above)
        elif field.is_repeated:
            getattr(message, field.name).extend(value_of(field, variant + n) for n in range(REPEATS))
        else:
            setattr(message, field.name, value_of(field, variant))
    return message


def value_of(field, variant):
    """Different for each field number and variant, never the default."""
    from google.protobuf.descriptor import FieldDescriptor as Field

    number = field.number * 16 + variant + 1
    text = f"{field.name}, {number}"
    if field.type == Field.TYPE_ENUM:
        others = [value.number for value in field.enum_type.values if value.number != 0]
        return others[variant % len(others)] if others else 0
    return {
        Field.CPPTYPE_STRING: text if field.type == Field.TYPE_STRING else b"\x00\xff" + text.encode(),
        Field.CPPTYPE_BOOL: True,
        Field.CPPTYPE_FLOAT: number / 2,
        Field.CPPTYPE_DOUBLE: number / 2,
    }.get(field.cpp_type, number)
