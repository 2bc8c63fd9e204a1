//! The Kubernetes manifests: each is an object, they fit together, and the config in them is sound.

use serde_json::Value;

use super::{plan, said};

const MANIFESTS: &str = include_str!("../../deploy/kubernetes/switchyard.yaml");

fn objects() -> Vec<Value> {
    serde_saphyr::from_multiple(MANIFESTS).expect("the manifests are YAML")
}

fn object(kind: &str) -> Value {
    let mut all = objects().into_iter().filter(|object| object["kind"] == kind);
    let object = all.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(all.next().is_none(), "{kind} is there twice");
    object
}

#[test]
fn every_manifest_is_an_object_with_a_name() {
    for object in objects() {
        assert!(object["apiVersion"].is_string() && object["kind"].is_string(), "{object}");
        assert_eq!(object["metadata"]["name"], "switchyard", "{object}");
        // Where it is applied is for the operator to say.
        assert!(object["metadata"]["namespace"].is_null(), "{object}");
    }
}

#[test]
fn the_config_in_the_manifests_is_sound_and_the_role_allows_what_it_needs() {
    let config = object("ConfigMap")["data"]["switchyard.yaml"].as_str().unwrap().to_owned();
    let plan = plan(&config);
    assert_eq!(said(super::read(&config)), "");
    assert_eq!(plan.sources[0].to_string(), "k8s:///app=skywalking,component=oap:11800");
    let rules = object("Role")["rules"].clone();
    let verbs = serde_json::json!(["list", "watch"]);
    assert_eq!(rules[0], serde_json::json!({ "apiGroups": [""], "resources": ["pods"], "verbs": verbs }));
    let slices =
        serde_json::json!({ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs });
    assert_eq!(rules[1], slices);
}

#[test]
fn deployment_and_service_agree_on_ports_and_labels() {
    let pods = object("Deployment")["spec"].clone();
    let service = object("Service")["spec"].clone();
    assert_eq!(pods["selector"]["matchLabels"], pods["template"]["metadata"]["labels"]);
    assert_eq!(service["selector"], pods["template"]["metadata"]["labels"]);
    assert_eq!(pods["template"]["spec"]["serviceAccountName"], object("ServiceAccount")["metadata"]["name"]);
    let container = &pods["template"]["spec"]["containers"][0];
    let ports = container["ports"].as_array().unwrap();
    for port in service["ports"].as_array().unwrap() {
        let target = ports.iter().find(|own| own["name"] == port["targetPort"]).unwrap();
        assert_eq!(target["containerPort"], port["port"]);
        assert_eq!(port["appProtocol"], "kubernetes.io/h2c");
    }
    let listeners = plan("to: a:1").listeners;
    let served: Vec<_> = listeners.iter().map(|listener| u64::from(listener.address.port())).collect();
    let named: Vec<_> = service["ports"].as_array().unwrap().iter().filter_map(|port| port["port"].as_u64()).collect();
    assert_eq!(named, served);
}
