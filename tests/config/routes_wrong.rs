//! What is wrong with routes, and what would be right.

use switchyard::route::catalogue;

use super::routes::{assert_wrong, with_routes};
use super::{assert_says, plan, read, said};

#[test]
fn a_field_that_no_method_has() {
    let expected = "
switchyard.yaml:4:16: error: routes[0].message.servce: none of the ALL methods that this is for has a field `servce`
  4 | - { message: { servce: shop }, drop: noise }
    |                ^^^^^^
  mend: did you mean `service`?
";
    let all = catalogue::methods().len().to_string();
    assert_says(&with_routes("- { message: { servce: shop }, drop: noise }"), &expected.replace("ALL", &all));
}

#[test]
fn a_field_is_told_by_where_in_its_path_it_goes_wrong() {
    assert_wrong(
        "
- method: skywalking.v3.LogReportService/collect
  message:
    trace.id: x
    body.txt.text: x
    service.name: x
    tags.data[http.method]: GET
    body[x]: x
    '2.1': x
    '1.x': x
    'tags..data': x
    'tags[': x
    'tags.data[]': x
  drop: noise
",
        "
7:5: error: routes[0].message.trace.id: skywalking.v3.LogData has no field `trace`
  mend: choose from service, instance, endpoint, trace_id, layer, timestamp, serviceInstance, body, traceContext, tags
8:5: error: routes[0].message.body.txt.text: skywalking.v3.LogDataBody has no field `txt`
  mend: did you mean `text`?
9:5: error: routes[0].message.service.name: there is no `name` here: nothing stands inside of a text
  mend: leave `.name` away
11:5: error: routes[0].message.body[x]: `body` is no map with text keys
  mend: leave `[x]` away
12:5: error: routes[0].message.2.1: nothing stands inside of field 2, `service`: it is no message
  mend: end the path with 2
13:5: error: routes[0].message.1.x: \"1.x\" is not a path of field numbers
  mend: write numbers with dots between, 1.4, and a map's key in brackets, 1[key]
14:5: error: routes[0].message.tags..data: a name is missing in \"tags..data\"
  mend: write names with dots between, source.name, and a map's key in brackets, labels[key]
15:5: error: routes[0].message.tags[: a bracket is left open in \"tags[\"
  mend: write names with dots between, source.name, and a map's key in brackets, labels[key]
16:5: error: routes[0].message.tags.data[]: a key is missing in \"tags.data[]\"
  mend: write names with dots between, source.name, and a map's key in brackets, labels[key]
",
    );
}

#[test]
fn the_method_that_came_nearest_is_named() {
    assert_wrong(
        "- { message: { 'body.txt': x }, drop: noise }",
        "
4:16: error: routes[0].message.body.txt: skywalking.v3.LogDataBody has no field `txt` (in a message of /skywalking.v3.LogReportService/collect)
  mend: did you mean `text`?
",
    );
}

#[test]
fn a_oneof_is_no_field() {
    assert_wrong(
        "- { method: '*/StreamAccessLogs', message: { log_entries: { present: true } }, drop: noise }",
        "
4:46: error: routes[0].message.log_entries: none of the 3 methods that this is for has a field `log_entries`
  mend: choose from http_logs, tcp_logs
",
    );
}

#[test]
fn a_value_that_the_field_cannot_hold() {
    assert_wrong(
        "
- method: skywalking.v3.LogReportService/collect
  message: { timestamp: soon, body: x, traceContext: { prefix: a }, tags.data: [a] }
  drop: noise
- method: skywalking.v3.MeterReportService/collect
  message: { singleValue.value: 1 }
  drop: noise
- method: skywalking.v3.TraceSegmentReportService/collect
  message: { spans.spanId: 3000000000 }
  drop: noise
- method: skywalking.v3.LogReportService/collect
  message: { timestamp: { prefix: 1 } }
  drop: noise
",
        "
6:14: error: routes[0].message.timestamp: `timestamp` is a whole number, which \"soon\" is not
  mend: write a whole number
6:31: error: routes[0].message.body: `body` is a message, skywalking.v3.LogDataBody, not a value
  mend: name a field inside of it, or write `present: true`
6:40: error: routes[0].message.traceContext: `traceContext` is a message, skywalking.v3.TraceContext, and only texts can be compared so
  mend: name a text inside of it
6:69: error: routes[0].message.tags.data: `tags.data` is a message, skywalking.v3.KeyStringValuePair, not a value
  mend: name a field inside of it, or write `present: true`
9:14: error: routes[1].message.singleValue.value: `singleValue.value` is a number with a fraction, which is not compared
  mend: write `present: true`
12:14: error: routes[2].message.spans.spanId: `spans.spanId` is a whole number, which \"3000000000\" is not
  mend: write a number from -2147483648 to 2147483647
15:14: error: routes[3].message.timestamp: `timestamp` is a whole number, and only texts can be compared so
  mend: write the value itself, or a list of values
",
    );
}

#[test]
fn a_comparison_that_is_none() {
    assert_wrong(
        "
- message:
    service: { prefix: a, suffix: b }
    instance: { prefx: a }
    endpoint: { regex: 'a(' }
    layer: { regex: '\\w{900}' }
    trace_id: { prefix: '' }
    timestamp: []
    name: { one_of: [] }
    uuid: {}
    node: { present: maybe }
    cluster: ${UNSET}
  drop: noise
",
        "
6:14: error: routes[0].message.service: `prefix` and `suffix` cannot both be said of one value
  mend: keep one; what must hold as well stands under `all`
7:15: error: routes[0].message.instance: nothing is said of what it is compared with
  mend: write one of equals, prefix, suffix, glob, regex, one_of, present
7:17: error: routes[0].message.instance.prefx: there is no such setting
  mend: did you mean `prefix`?
8:24: error: routes[0].message.endpoint.regex: \"a(\" is no regular expression: unclosed group
  mend: mend it; what is meant as it is gets a backslash, as in \\.
9:21: error: routes[0].message.layer.regex: this pattern would take too much memory
  mend: repeat less, or compare with prefix, suffix or glob
10:25: error: routes[0].message.trace_id.prefix: every text begins and ends with nothing
  mend: write `present: true`
11:16: error: routes[0].message.timestamp: takes one value, not a list
  mend: write the value alone, without `-` or brackets
12:21: error: routes[0].message.name.one_of: has no value
  mend: write a value, or remove the line to take the default
13:11: error: routes[0].message.uuid: nothing is said of what it is compared with
  mend: write one of equals, prefix, suffix, glob, regex, one_of, present
14:22: error: routes[0].message.node.present: \"maybe\" is not one of false, true
  mend: write one of false, true
15:14: error: routes[0].message.cluster: is empty: the variable UNSET is not set
  mend: set UNSET, or write `${UNSET:-default}`
",
    );
}

#[test]
fn methods_pools_flows_and_listeners_that_do_not_exist() {
    assert_wrong(
        "
- { method: skywalking.v3.TraceSegmentReportServce/collect, to: tial }
- { method: nope, mirror: archiv }
- { method: ['zipkin.*', /a.B/C], drop: x }
- { flow: log, to: tail }
- { listener: [agents, admin], to: tail }
- { metadata: { 'a b': x, token-bin: y }, to: tail }
",
        "
5:13: error: routes[0].method: there is no method /skywalking.v3.TraceSegmentReportServce/collect
  mend: did you mean `/skywalking.v3.TraceSegmentReportService/collect`?
5:65: error: routes[0].to: there is no pool `tial`
  mend: did you mean `tail`?
6:13: error: routes[1].method: there is no method /nope
  mend: describe it under `methods`, or write one of `switchyard catalogue`
6:27: error: routes[1].mirror: there is no pool `archiv`
  mend: did you mean `archive`?
7:14: error: routes[2].method: \"zipkin.*\" matches none of the ALL methods
  mend: `*` stands for anything, `?` for one character: skywalking.v3.*/collect
7:26: error: routes[2].method: there is no method /a.B/C
  mend: describe it under `methods`, or write one of `switchyard catalogue`
8:11: error: routes[3].flow: \"log\" is not one of control, traces, logs, access_logs, metrics, profiles
  mend: did you mean `logs`?
9:24: error: routes[4].listener: \"admin\" is not one of agents, access_logs, metrics
  mend: write one of agents, access_logs, metrics
10:17: error: routes[5].metadata.a b: \"a b\" cannot be the name of metadata
  mend: use letters, digits, `-`, `_` and `.`
10:27: error: routes[5].metadata.token-bin: `token-bin` holds bytes in base64, which are not compared
  mend: use metadata of text
"
        .replace("ALL", &catalogue::methods().len().to_string())
        .as_str(),
    );
}

#[test]
fn a_route_that_no_message_can_fall_under() {
    assert_wrong(
        "
- { flow: logs, method: skywalking.v3.TraceSegmentReportService/collect, to: tail }
- { flow: traces, listener: metrics, to: tail }
- { method: '*LogReport*', message: { service: shop }, all: [ { message: { service: [till, 'x*'] } } ], to: tail }
- { message: { service: shop }, not: { message: { service: { present: true } } }, to: tail }
- { flow: logs, to: archive }
- { flow: logs, message: { service: shop }, to: tail }
",
        "
5:3: error: routes[0]: no method is all that this asks for: its flow is another, or `not` takes it away
  mend: remove one of the conditions on method and flow; `switchyard catalogue` names each method's flow
6:29: warning: routes[1].listener: no call of /skywalking.v3.TraceSegmentReportService/collect and 3 more comes to that listener
  mend: the listeners that are open: agents (every flow), access_logs (access_logs), metrics (metrics)
7:3: error: routes[2]: no message can be both: service is \"shop\" and service is \"till\" or begins with \"x\"
  mend: remove one of them, or put them under `any`
8:3: error: routes[3]: no message can be both: service is \"shop\" and not service is there
  mend: remove one of them, or put them under `any`
10:3: warning: routes[5]: nothing is left for it: routes[4] takes every message of /skywalking.v3.LogReportService/collect and 3 more
  mend: move it above routes[4], or remove it
",
    );
}

#[test]
fn two_elements_may_be_what_one_cannot() {
    plan(&with_routes(
        "- { method: '*Segment*/collect', message: { spans.operationName: /a }, all: [ { message: { spans.operationName: /b } } ], to: tail }",
    ));
}

#[test]
fn actions_that_contradict_each_other() {
    assert_wrong(
        "
- { flow: logs, drop: noise, to: tail, limit: 5/s, key: service }
- { flow: traces, mirror: { to: tail }, to: tail }
- { flow: metrics, sample: 0% }
- { flow: profiles, sample: 100% }
- { flow: access_logs, mirror: { share: 0%, to: tail } }
",
        "
5:34: error: routes[0].to: the route drops its messages: nothing is left for this
  mend: remove it, or `drop`
5:47: error: routes[0].limit: the route drops its messages: nothing is left for this
  mend: remove it, or `drop`
5:57: error: routes[0].key: the route drops its messages: nothing is left for this
  mend: remove it, or `drop`
6:27: error: routes[1].mirror: its messages go to tail anyway
  mend: name another pool
7:28: error: routes[2].sample: nothing would be left
  mend: write `drop: why` instead
8:29: warning: routes[3].sample: everything is left
  mend: remove it, or sample less
9:41: error: routes[4].mirror.share: nothing would be copied
  mend: remove `mirror`
",
    );
}

#[test]
fn shares_and_rates_that_are_none() {
    assert_wrong(
        "
- { flow: logs, sample: 10 }
- { flow: traces, sample: { by: trace_id } }
- { flow: metrics, limit: 5k }
- { flow: profiles, limit: { per: task_id } }
- { flow: access_logs, limit: { rate: 5.5/s, burst: 0, per: nod } }
- { flow: control, mirror: { share: 5% } }
",
        "
5:25: error: routes[0].sample: \"10\" has no unit
  mend: write 10%
6:27: error: routes[1].sample: nothing is said of how many
  mend: write `share: 10%`
7:27: error: routes[2].limit: \"5k\" does not say in which time
  mend: write 100/s, 5k/s, 1.5M/s, or 30/m for thirty a minute
8:28: error: routes[3].limit: nothing is said of how many may pass
  mend: write `rate: 5k/s`
9:39: error: routes[4].limit.rate: \"5.5/s\" is no whole number of messages
  mend: count them in a longer time, as in 30/m
9:53: error: routes[4].limit.burst: 0 is less than 1
  mend: write 1 to 10000000
10:28: error: routes[5].mirror: nothing is said of where to
  mend: write `to:` and the name of a pool
10:28: error: routes[5].mirror: a call of /skywalking.v3.ManagementService/reportInstanceProperties and 14 more is kept whole: it has one answer, and so one backend
  mend: remove it, or name methods that are split
",
    );
}

#[test]
fn what_a_method_cannot_do() {
    assert_wrong(
        "
- { method: skywalking.v3.MeterReportService/collect, mirror: tail }
- { method: skywalking.v3.*Config*/*, sample: 10% }
- { method: skywalking.v3.EBPFProfilingService/queryTasks, drop: no eBPF here }
- { method: skywalking.v3.MeterReportService/collectBatch, key: instance, mirror: tail }
- { method: skywalking.v3.EventService/collect, key: name }
- { method: opentelemetry.*.MetricsService/Export, key: trace_id }
- { method: opentelemetry.*.LogsService/Export, key: [trace_id, service] }
- { method: [skywalking.v3.BrowserPerfService/*], mirror: archive }
- { method: opentelemetry.*.TraceService/Export, mirror: archive }
- { method: [skywalking.v3.LogReportService/collect, opentelemetry.*.MetricsService/Export], mirror: archive }
",
        "
5:63: error: routes[0].mirror: a call of /skywalking.v3.MeterReportService/collect is kept whole: it has one answer, and so one backend
  mend: remove it, or name methods that are split
6:47: error: routes[1].sample: callers of /skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations act on the answer, and would go without
  mend: remove it, or limit the rate
7:66: warning: routes[2].drop: callers of /skywalking.v3.EBPFProfilingService/queryTasks act on the answer, and get FAILED_PRECONDITION instead
  mend: drop the messages of other methods, or live with it
9:54: warning: routes[4].key: messages of /skywalking.v3.EventService/collect that agree in uuid must meet one backend, and would not
  mend: leave it away, or use uuid or a part of it
10:57: error: routes[5].key: a request of /opentelemetry.proto.collector.metrics.v1.MetricsService/Export is not cut by `trace_id`
  mend: choose from service, resource
11:65: error: routes[6].key: a request is cut by one key, not by several
  mend: write one of trace_id, service, resource
12:59: warning: routes[7].mirror: calls of /skywalking.v3.BrowserPerfService/collectPerfData and 3 more are kept whole, and not copied
  mend: name methods that are split
13:58: error: routes[8].mirror: a call of /opentelemetry.proto.collector.trace.v1.TraceService/Export is answered once for all its parts, and not copied
  mend: remove it, or name methods that are split
14:102: warning: routes[9].mirror: calls of /opentelemetry.proto.collector.metrics.v1.MetricsService/Export are answered once, and not copied
  mend: name methods that are split
",
    );
}

#[test]
fn names_in_actions_that_no_method_has() {
    assert_wrong(
        "
- { flow: access_logs, limit: { rate: 5/s, per: nod } }
- { flow: traces, sample: { share: 5%, by: [trace_id, servce] } }
- { method: skywalking.v3.MeterReportService/collect, key: singleValue.value }
- { flow: profiles, mirror: { to: tail, by: taskid } }
",
        "
5:49: error: routes[0].limit.per: none of the 4 methods that this is for has a field `nod`
  mend: did you mean `node`?
6:55: error: routes[1].sample.by: none of the 4 methods that this is for has a field `servce`
  mend: did you mean `service`?
7:60: error: routes[2].key: `singleValue.value` is a number with a fraction, which makes no key
  mend: name a text or a whole number
8:45: error: routes[3].mirror.by: none of the 5 methods that this is for has a field `taskid`
  mend: did you mean `task_id`?
",
    );
}

#[test]
fn routes_of_one_name_and_things_that_are_no_routes() {
    assert_wrong(
        "
- { name: a, flow: logs, to: tail }
- { name: a, flow: traces, to: tail }
- flow
- { flow: metrics, any: { flow: logs }, all: [], not: [] }
- { flow: profiles, any: [ { to: tail } ], service: shop }
",
        "
6:11: error: routes[1].name: routes[0] has this name already, and their counts would be one
  mend: give it another name
7:3: error: routes[2]: takes conditions and what becomes of messages
  mend: write `{ flow: logs, to: archive }`
8:25: error: routes[3].any: takes a list of conditions
  mend: write `any: [ { flow: logs }, { message: { service: shop } } ]`
8:46: error: routes[3].all: takes a list of conditions
  mend: write `all: [ { flow: logs }, { message: { service: shop } } ]`
8:55: error: routes[3].not: takes conditions
  mend: write one or more of method, flow, listener, metadata, message, any, all, not
9:30: error: routes[4].any[0].to: `to` says what becomes of messages; only conditions stand here
  mend: write it at the route itself
9:44: error: routes[4].service: there is no such setting
  mend: write it under `message` if it is a field, under `metadata` if it is metadata, or write one of name, method, flow, listener, metadata, message, any, all, not, to, drop, sample, mirror, limit, key, malformed
",
    );
    let told = said(read("to: a:1\nroutes: { flow: logs }"));
    assert!(told.contains("routes: takes a list of routes"), "{told}");
}
