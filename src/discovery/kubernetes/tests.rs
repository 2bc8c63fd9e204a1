//! Pods and slices followed against an API that is scripted on a real socket.

mod scripted;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::pool::found::Found;
use scripted::{Api, Lines, PATIENCE};

fn pods(api: &Api) -> Settings {
    Settings {
        kind: Kind::Pods { selector: "app=oap,tier in (a)".to_owned(), fields: String::new() },
        namespace: Some("sky".to_owned()),
        port: Port::Number(11800),
        api_server: Some(api.server.clone()),
        token_file: None,
        ca_file: None,
    }
}

fn slices(api: &Api, port: Port) -> Settings {
    Settings { kind: Kind::EndpointSlices { service: "oap".to_owned() }, port, ..pods(api) }
}

/// A follower, and what it tells.
struct Following {
    told: mpsc::UnboundedReceiver<Vec<Found>>,
    _task: JoinSet<()>,
}

impl Following {
    fn start(settings: Settings) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(follow(settings, Announcer::new("oap", move |all| drop(tell.send(all)))));
        Self { told, _task: task }
    }

    async fn told(&mut self) -> Vec<Found> {
        timeout(PATIENCE, self.told.recv()).await.expect("something is told").unwrap()
    }

    /// Names and addresses; a leaving one has a minus sign behind it.
    async fn names(&mut self) -> String {
        let shown = |found: &Found| {
            format!("{}={}{}", found.name, found.endpoint.host, if found.is_leaving { "-" } else { "" })
        };
        self.told().await.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    /// Nothing was told since.
    fn is_quiet(&mut self) -> bool {
        self.told.try_recv().is_err()
    }
}

fn pod(name: &str, version: u32, is_ready: bool) -> Value {
    let number: u32 = name.rsplit('-').next().unwrap().parse().unwrap();
    json!({
        "metadata": { "name": name, "resourceVersion": version.to_string(), "labels": { "app": "oap" } },
        "spec": { "containers": [{ "name": "oap", "ports": [{ "name": "grpc", "containerPort": 11800 }] }] },
        "status": {
            "phase": "Running",
            "podIP": format!("10.0.0.{number}"),
            "conditions": [{ "type": "Initialized", "status": "True" },
                           { "type": "Ready", "status": if is_ready { "True" } else { "False" } }],
        },
    })
}

fn leaving(name: &str, version: u32) -> Value {
    let mut pod = pod(name, version, true);
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z".into();
    pod
}

fn event(kind: &str, object: &Value) -> Value {
    json!({ "type": kind, "object": object })
}

fn list(version: u32, items: &[Value]) -> Value {
    json!({ "kind": "List", "metadata": { "resourceVersion": version.to_string() }, "items": items })
}

/// Answers the list and begins the watch after it.
async fn listed(api: &mut Api, version: u32, items: &[Value]) -> Lines {
    let asked = api.asked().await;
    assert!(asked.path.contains("limit=500") && !asked.path.contains("watch"), "{}", asked.path);
    asked.says(200, &list(version, items));
    watched(api, version).await
}

async fn watched(api: &mut Api, version: u32) -> Lines {
    let asked = api.asked().await;
    let wanted = format!("&resourceVersion={version}");
    assert!(asked.path.contains("watch=true") && asked.path.ends_with(&wanted), "{} {wanted}", asked.path);
    asked.watches()
}

#[tokio::test]
async fn pods_are_listed_page_by_page_and_then_watched_from_there() {
    let mut api = Api::start().await;
    let mut following = Following::start(pods(&api));
    let asked = api.asked().await;
    let path = "/api/v1/namespaces/sky/pods?labelSelector=app%3Doap%2Ctier%20in%20%28a%29&limit=500";
    assert_eq!(asked.path, path);
    asked.says(
        200,
        &json!({ "metadata": { "resourceVersion": "7", "continue": "a/b" }, "items": [pod("oap-2", 5, true)] }),
    );
    let asked = api.asked().await;
    assert_eq!(asked.path, format!("{path}&continue=a%2Fb"));
    asked.says(200, &list(7, &[pod("oap-1", 3, true), pod("oap-3", 4, false)]));
    let watch = watched(&mut api, 7).await;
    assert_eq!(following.names().await, "oap-1:11800=10.0.0.1 oap-2:11800=10.0.0.2");

    watch.say(&event("ADDED", &pod("oap-4", 8, true)));
    assert_eq!(following.names().await, "oap-1:11800=10.0.0.1 oap-2:11800=10.0.0.2 oap-4:11800=10.0.0.4");
    watch.say(&event("MODIFIED", &leaving("oap-1", 9)));
    assert_eq!(following.names().await, "oap-1:11800=10.0.0.1- oap-2:11800=10.0.0.2 oap-4:11800=10.0.0.4");
    watch.say(&event("DELETED", &leaving("oap-1", 10)));
    assert_eq!(following.names().await, "oap-2:11800=10.0.0.2 oap-4:11800=10.0.0.4");
    watch.say(&event("MODIFIED", &pod("oap-2", 11, false)));
    assert_eq!(following.names().await, "oap-4:11800=10.0.0.4");
}

#[tokio::test]
async fn a_watch_that_ends_or_breaks_in_a_line_goes_on_where_it_was() {
    let mut api = Api::start().await;
    let mut following = Following::start(pods(&api));
    let watch = listed(&mut api, 7, &[pod("oap-1", 3, true)]).await;
    following.told().await;
    watch.say(&event("BOOKMARK", &json!({ "metadata": { "resourceVersion": "20" } })));
    watch.end();
    let watch = watched(&mut api, 20).await;
    // Two lines in three pieces, and the third line breaks off.
    let two = format!("{}\n{}\n", event("ADDED", &pod("oap-2", 21, true)), event("ADDED", &pod("oap-3", 22, true)));
    watch.piece(&two[..100]);
    watch.piece(&two[100..600]);
    watch.piece(&two[600..]);
    while following.told().await.len() < 3 {}
    watch.piece(&event("DELETED", &pod("oap-1", 23, true)).to_string()[..60]);
    watch.cut();
    let watch = watched(&mut api, 22).await;
    assert!(following.is_quiet(), "half a line is no news, and neither is a broken watch");
    watch.say(&event("DELETED", &pod("oap-1", 23, true)));
    assert_eq!(following.names().await, "oap-2:11800=10.0.0.2 oap-3:11800=10.0.0.3");
}

#[tokio::test]
async fn what_the_api_no_longer_knows_is_listed_again() {
    let mut api = Api::start().await;
    let mut following = Following::start(pods(&api));
    let watch = listed(&mut api, 7, &[pod("oap-1", 3, true)]).await;
    following.told().await;
    // As a line of the watch, as the answer to a watch, as the answer to a page.
    watch.say(&event("ERROR", &json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old" })));
    let asked = api.asked().await;
    assert!(!asked.path.contains("watch"), "{}", asked.path);
    asked.says(200, &list(30, &[pod("oap-1", 3, true), pod("oap-2", 29, true)]));
    assert_eq!(following.told().await.len(), 2);
    api.asked().await.says(410, &json!({ "kind": "Status", "code": 410 }));
    let next = json!({ "metadata": { "resourceVersion": "40", "continue": "x" }, "items": [pod("oap-3", 39, true)] });
    api.asked().await.says(200, &next);
    api.asked().await.says(410, &json!({ "kind": "Status", "code": 410 }));
    let _watch = listed(&mut api, 50, &[pod("oap-2", 29, true)]).await;
    assert_eq!(following.names().await, "oap-2:11800=10.0.0.2", "half a list is no news");
}

#[tokio::test]
async fn the_last_good_set_stays_while_the_api_is_away() {
    let mut api = Api::start().await;
    let mut following = Following::start(pods(&api));
    let watch = listed(&mut api, 7, &[pod("oap-1", 3, true)]).await;
    following.told().await;
    watch.cut();
    api.asked().await.says(503, &json!({ "kind": "Status", "code": 503, "message": "etcd is away" }));
    drop(api.asked().await);
    api.asked().await.says(500, &json!("no status at all"));
    assert!(following.is_quiet());
    let watch = watched(&mut api, 7).await;
    watch.say(&event("ADDED", &pod("oap-2", 8, true)));
    assert_eq!(following.told().await.len(), 2);
    watch.piece("<html>\n");
    let _watch = listed(&mut api, 9, &[pod("oap-2", 8, true)]).await;
    assert_eq!(following.names().await, "oap-2:11800=10.0.0.2", "what cannot be read is asked for again");
}

#[tokio::test]
async fn when_no_pod_is_ready_the_last_good_ones_stay_except_those_that_end() {
    let mut api = Api::start().await;
    let mut following = Following::start(pods(&api));
    let watch = listed(&mut api, 7, &[pod("oap-1", 3, true), pod("oap-2", 4, true)]).await;
    following.told().await;
    watch.say(&event("MODIFIED", &pod("oap-2", 8, false)));
    assert_eq!(following.names().await, "oap-1:11800=10.0.0.1");
    watch.say(&event("MODIFIED", &pod("oap-1", 9, false)));
    watch.say(&event("ADDED", &pod("oap-3", 10, false)));
    watch.say(&event("MODIFIED", &leaving("oap-1", 11)));
    assert_eq!(following.names().await, "oap-1:11800=10.0.0.1-");
    watch.say(&event("DELETED", &leaving("oap-1", 12)));
    watch.say(&event("MODIFIED", &pod("oap-3", 13, true)));
    assert_eq!(following.names().await, "oap-3:11800=10.0.0.3");
}

#[tokio::test]
async fn a_missing_right_is_told_with_its_verb_resource_and_namespace() {
    let mut api = Api::start().await;
    for (settings, words) in [
        (
            pods(&api),
            "not allowed to watch pods in namespace sky: a Role with apiGroups [\"\"], resources [pods], verbs [list, watch]",
        ),
        (
            slices(&api, Port::Only),
            "not allowed to watch endpointslices in namespace sky: a Role with apiGroups [\"discovery.k8s.io\"]",
        ),
    ] {
        let mut session = Session::open(&settings).await.unwrap();
        let (outcome, ()) = tokio::join!(session.watch("7"), async {
            api.asked().await.says(403, &json!({ "kind": "Status", "code": 403, "message": "pods is forbidden" }));
        });
        let said = outcome.err().unwrap().to_string();
        assert!(said.contains(words) && said.ends_with("pods is forbidden"), "{said}");
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_is_used_from_the_next_request_on() {
    let mut api = Api::start().await;
    let file = std::env::temp_dir().join(format!("switchyard-token-{}", std::process::id()));
    std::fs::write(&file, "first\n").unwrap();
    let _following = Following::start(Settings { token_file: Some(file.clone()), ..pods(&api) });
    let asked = api.asked().await;
    assert_eq!(asked.authorization.as_deref(), Some("Bearer first"));
    std::fs::write(&file, "second\n").unwrap();
    asked.says(200, &list(7, &[]));
    let asked = api.asked().await;
    assert_eq!(asked.authorization.as_deref(), Some("Bearer second"));
    asked.says(401, &json!({ "kind": "Status", "code": 401, "message": "Unauthorized" }));
    std::fs::write(&file, "third").unwrap();
    let asked = api.asked().await;
    assert_eq!(asked.authorization.as_deref(), Some("Bearer third"));
    std::fs::remove_file(&file).unwrap();
}

/// Endpoints as `(pod, ready, serving, terminating, zone)`; an empty pod is an address alone.
fn slice(name: &str, version: u32, endpoints: &[(&str, bool, bool, bool, &str)]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .enumerate()
        .map(|(index, (pod, ready, serving, terminating, zone))| {
            let mut endpoint = json!({
                "addresses": [format!("10.0.1.{index}")],
                "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
                "zone": zone,
            });
            if !pod.is_empty() {
                endpoint["targetRef"] = json!({ "kind": "Pod", "name": pod });
            }
            endpoint
        })
        .collect();
    json!({
        "metadata": { "name": name, "resourceVersion": version.to_string() },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "grpc", "port": 11800 }, { "name": "rest", "port": 12800 }],
    })
}

#[tokio::test]
async fn the_slices_of_a_service_tell_readiness_zones_and_who_terminates() {
    let mut api = Api::start().await;
    let mut following = Following::start(slices(&api, Port::Name("grpc".to_owned())));
    let asked = api.asked().await;
    let path = "/apis/discovery.k8s.io/v1/namespaces/sky/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Doap&limit=500";
    assert_eq!(asked.path, path);
    let first =
        [("oap-0", true, true, false, "east"), ("oap-1", false, false, false, "west"), ("", true, true, false, "")];
    asked.says(200, &list(7, &[slice("oap-x", 5, &first), slice("oap-y", 6, &[("oap-9", true, true, false, "west")])]));
    let watch = watched(&mut api, 7).await;
    let told = following.told().await;
    let told: Vec<_> =
        told.iter().map(|found| (found.name.as_str(), found.zone.as_deref(), found.endpoint.port)).collect();
    assert_eq!(
        told,
        [("10.0.1.2:11800", None, 11800), ("oap-0:11800", Some("east"), 11800), ("oap-9:11800", Some("west"), 11800)]
    );

    let then = [("oap-0", false, true, true, "east"), ("oap-1", true, true, false, "west")];
    watch.say(&event("MODIFIED", &slice("oap-x", 8, &then)));
    assert_eq!(following.names().await, "oap-0:11800=10.0.1.0- oap-1:11800=10.0.1.1 oap-9:11800=10.0.1.0");
    // Nobody is ready: who does not end stays, whatever becomes of the slices.
    watch.say(&event("DELETED", &slice("oap-y", 9, &[])));
    assert_eq!(following.names().await, "oap-0:11800=10.0.1.0- oap-1:11800=10.0.1.1");
    watch.say(&event("MODIFIED", &slice("oap-x", 10, &[("oap-1", false, false, false, "west")])));
    assert_eq!(following.names().await, "oap-1:11800=10.0.1.1");
    watch.say(&event("DELETED", &slice("oap-x", 11, &[])));
    watch.say(&event("ADDED", &slice("oap-z", 12, &[("oap-2", true, true, false, "west")])));
    assert_eq!(following.names().await, "oap-2:11800=10.0.1.0");
}

#[test]
fn a_port_is_a_number_a_name_or_the_only_one() {
    let read = |value: Value| serde_json::from_value::<Object>(value).unwrap();
    let kind = Kind::Pods { selector: String::new(), fields: String::new() };
    let port = |port: Port| {
        let pod = read(pod("oap-1", 1, true));
        pod.backends(&kind, &port).map(|all| all.iter().map(|seen| seen.found.endpoint.port).collect::<Vec<_>>())
    };
    assert_eq!(port(Port::Number(1)), Ok(vec![1]));
    assert_eq!(port(Port::Name("grpc".to_owned())), Ok(vec![11800]));
    assert_eq!(port(Port::Only), Ok(vec![11800]));
    assert_eq!(
        port(Port::Name("gprc".to_owned())),
        Err("pod oap-1 has no port named `gprc`, it has grpc:11800".to_owned())
    );
    let service = Kind::EndpointSlices { service: "oap".to_owned() };
    let slice = read(slice("oap-x", 1, &[("oap-0", true, true, false, "")]));
    assert_eq!(
        slice.backends(&service, &Port::Only),
        Err("endpoint slice oap-x has grpc:11800, rest:12800: `port` must say which is meant".to_owned())
    );
    // As the API writes a slice of a service without pods.
    let empty = read(json!({ "metadata": { "name": "oap-x" }, "endpoints": null, "ports": null }));
    assert_eq!(empty.backends(&service, &Port::Only), Ok(Vec::new()));
}

#[test]
fn a_pod_is_in_when_it_runs_is_ready_and_has_an_address_and_brings_its_zone() {
    let kind = Kind::Pods { selector: String::new(), fields: String::new() };
    let standing = |pod: Value| {
        let pod: Object = serde_json::from_value(pod).unwrap();
        let all = pod.backends(&kind, &Port::Number(1)).unwrap();
        all.first().map(|seen| (seen.standing, seen.found.zone.clone()))
    };
    use crate::discovery::roster::Standing::{Leaving, Ready, Unready};
    let mut zoned = pod("oap-1", 1, true);
    zoned["metadata"]["labels"]["topology.kubernetes.io/zone"] = "east".into();
    assert_eq!(standing(zoned.clone()), Some((Ready, Some("east".to_owned()))));
    assert_eq!(standing(pod("oap-1", 1, false)), Some((Unready, None)));
    assert_eq!(standing(leaving("oap-1", 1)), Some((Leaving, None)));
    zoned["status"]["phase"] = "Succeeded".into();
    assert_eq!(standing(zoned.clone()).map(|(standing, _)| standing), Some(Unready));
    zoned["status"]["podIP"] = Value::Null;
    assert_eq!(standing(zoned), None);
}
