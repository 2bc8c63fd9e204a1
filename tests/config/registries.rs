//! Backends that a cluster or a registry knows: Kubernetes and etcd, as URLs and as settings.

use std::path::PathBuf;

use switchyard::discovery::Source;
use switchyard::discovery::dial::{IdentityFiles, TlsSettings};
use switchyard::discovery::etcd::{Password, Settings, User};
#[cfg(feature = "k8s")]
use switchyard::discovery::kubernetes;

use super::{assert_says, read_with, said};

#[cfg(feature = "k8s")]
fn pods(selector: &str) -> kubernetes::Settings {
    kubernetes::Settings {
        kind: kubernetes::Kind::Pods { selector: selector.to_owned(), fields: String::new() },
        namespace: Some("sky".to_owned()),
        port: kubernetes::Port::Number(11_800),
        api_server: None,
        token_file: None,
        ca_file: None,
    }
}

#[cfg(feature = "k8s")]
#[test]
fn pods_are_a_url_or_settings_and_slices_are_settings() {
    let text = "
to: k8s://sky/app=oap,tier in (a, b):11800
pools:
  same: { endpoints: { kubernetes: { namespace: sky, selector: 'app=oap,tier in (a, b)', port: 11800 } } }
  service:
    endpoints:
      kubernetes:
        service: oap
        port: grpc
        api_server: https://10.0.0.1
        token_file: token
        ca: /etc/ca.crt
";
    let plan = super::plan(text);
    let first = Source::Kubernetes(pods("app=oap,tier in (a, b)"));
    let service = kubernetes::Settings {
        kind: kubernetes::Kind::EndpointSlices { service: "oap".to_owned() },
        namespace: None,
        port: kubernetes::Port::Name("grpc".to_owned()),
        api_server: Some(kubernetes::ApiServer { is_tls: true, endpoint: "10.0.0.1:443".parse().unwrap() }),
        token_file: Some(PathBuf::from("token")),
        ca_file: Some(PathBuf::from("/etc/ca.crt")),
    };
    assert_eq!(plan.sources, [first.clone(), first, Source::Kubernetes(service)]);
    let pools: Vec<_> = plan.describe().into_iter().filter(|line| line.starts_with("pool")).collect();
    assert_eq!(pools[0], "pool         backends by least_load, from k8s://sky/app=oap,tier in (a, b):11800");
    assert_eq!(pools[2], "pool service backends by least_load, from endpoint slices of oap:grpc");
}

/// What SkyWalking's Helm chart sets for a Satellite.
#[cfg(feature = "k8s")]
#[test]
fn the_variables_of_satellites_chart_find_the_same_pods() {
    let variables = [
        ("SATELLITE_GRPC_CLIENT_FINDER", "kubernetes"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_NAMESPACE", "sky"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_KIND", "pod"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_SELECTOR_LABEL", "app=skywalking,release=sky,component=oap"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_EXTRA_PORT", "11800"),
    ];
    let (plan, warnings) = read_with("", &[], &variables).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(plan.sources, [Source::Kubernetes(pods("app=skywalking,release=sky,component=oap"))]);
}

#[test]
fn etcd_is_a_url_or_settings_and_its_password_is_never_shown() {
    let text = "
to: etcd://a:1,b/oap
pools:
  known:
    endpoints:
      etcd:
        members: [127.0.0.1]
        prefix: /services/oap/
        tls: { ca: ca.pem, certificate: us.pem, key: us.key, server_name: member1.etcd.local }
        username: switchyard
        password: ${PASSWORD}
";
    let (plan, warnings) = read_with(text, &[], &[("PASSWORD", "s3cret")]).unwrap();
    assert_eq!(warnings, []);
    let members = |all: &[&str]| all.iter().map(|member| member.parse().unwrap()).collect();
    let first = Settings { members: members(&["a:1", "b:2379"]), prefix: "oap/".to_owned(), tls: None, user: None };
    let known = Settings {
        members: members(&["127.0.0.1:2379"]),
        prefix: "/services/oap/".to_owned(),
        tls: Some(TlsSettings {
            ca_file: PathBuf::from("ca.pem"),
            identity: Some(IdentityFiles { certificate: PathBuf::from("us.pem"), key: PathBuf::from("us.key") }),
            server_name: Some("member1.etcd.local".to_owned()),
        }),
        user: Some(User { name: "switchyard".to_owned(), password: Password("s3cret".to_owned()) }),
    };
    assert_eq!(plan.sources, [Source::Etcd(first), Source::Etcd(known)]);
    let shown = format!("{} {} {plan:?}", plan.describe().join(" "), plan.summary());
    assert!(!shown.contains("s3cret"), "{shown}");
    let twice = read_with("to: { etcd: { members: a, prefix: oap, password: [s3cret] } }", &[], &[]);
    assert!(!said(twice).contains("s3cret"));
}

#[cfg(not(feature = "k8s"))]
#[test]
fn a_program_without_kubernetes_says_how_to_get_one_that_has_it() {
    let mend = "mend: take a release, or build it with `cargo build --release --features k8s`";
    for text in ["to: k8s://sky/app=oap:11800", "to: { kubernetes: { service: oap } }"] {
        let said = said(super::read(text));
        assert!(said.contains("this program was built without Kubernetes") && said.contains(mend), "{said}");
        assert_eq!(said.matches("error").count(), 1, "{said}");
    }
}

#[cfg(feature = "k8s")]
#[test]
fn what_is_wrong_with_kubernetes_is_told_with_place_and_mend() {
    assert_says(
        "to: k8s://sky/app=oap\n",
        r#"
switchyard.yaml:1:5: error: to: "k8s://sky/app=oap" has no port
  1 | to: k8s://sky/app=oap
    |     ^^^^^^^^^^^^^^^^^
  mend: write k8s://sky/app=oap:11800, or a port's name
"#,
    );
    assert_says(
        "to: [a:1, 'k8s://sky/app=oap:11800']\n",
        r#"
switchyard.yaml:1:12: error: to: a source is all of a pool: nothing may stand beside it
  1 | to: [a:1, 'k8s://sky/app=oap:11800']
    |            ^^^^^^^^^^^^^^^^^^^^^^^
  mend: give it a pool of its own under `pools:`, or name every backend by host:port
"#,
    );
    assert_says(
        "to: k8s://sky/app oap:11800\n",
        r#"
switchyard.yaml:1:5: error: to: "app oap" selects no labels
  1 | to: k8s://sky/app oap:11800
    |     ^^^^^^^^^^^^^^^^^^^^^^^
  mend: write name=value, name!=value, name in (a,b), name notin (a,b), name or !name, with commas between them
"#,
    );
    let text = "
to:
  kubernetes:
    kind: endpointslice
    namespace: Sky
    selector: app=oap,=b
    service: oap_1
    port: 70000
    api_server: 10.0.0.1:6443
    tokenfile: x
";
    assert_says(
        text,
        r#"
switchyard.yaml:4:11: error: to.kubernetes.kind: "endpointslice" is not one of pods, endpointslices
  4 |     kind: endpointslice
    |           ^^^^^^^^^^^^^
  mend: did you mean `endpointslices`?
switchyard.yaml:5:16: error: to.kubernetes.namespace: "Sky" cannot be the name of a namespace
  5 |     namespace: Sky
    |                ^^^
  mend: use small letters, digits and `-`, as Kubernetes does
switchyard.yaml:6:15: error: to.kubernetes.selector: "=b" selects no labels
  6 |     selector: app=oap,=b
    |               ^^^^^^^^^^
  mend: write name=value, name!=value, name in (a,b), name notin (a,b), name or !name, with commas between them
switchyard.yaml:6:15: error: to.kubernetes.selector: does not go with `kind: endpointslices`
  6 |     selector: app=oap,=b
    |               ^^^^^^^^^^
  mend: remove it, or `service`
switchyard.yaml:7:14: error: to.kubernetes.service: "oap_1" cannot be the name of a service
  7 |     service: oap_1
    |              ^^^^^
  mend: use small letters, digits and `-`, as Kubernetes does
switchyard.yaml:8:11: error: to.kubernetes.port: "70000" is not a port
  8 |     port: 70000
    |           ^^^^^
  mend: write a number from 1 to 65535
switchyard.yaml:9:17: error: to.kubernetes.api_server: "10.0.0.1:6443" is not the address of an API server
  9 |     api_server: 10.0.0.1:6443
    |                 ^^^^^^^^^^^^^
  mend: write https://HOST:PORT, or http://HOST:PORT for `kubectl proxy`
switchyard.yaml:10:5: error: to.kubernetes.tokenfile: there is no such setting
  10 |     tokenfile: x
     |     ^^^^^^^^^
  mend: did you mean `token_file`?
"#,
    );
    assert_says(
        "to: { kubernetes: { kind: pods, service: oap } }\n",
        r#"
switchyard.yaml:1:19: error: to.kubernetes.selector: nothing says which backends are meant
  1 | to: { kubernetes: { kind: pods, service: oap } }
    |                   ^
  mend: write `selector: app=oap`, or `service: NAME`
switchyard.yaml:1:42: error: to.kubernetes.service: does not go with `kind: pods`
  1 | to: { kubernetes: { kind: pods, service: oap } }
    |                                          ^^^
  mend: remove it, or `selector`
"#,
    );
    assert_says(
        "to: { kubernetes: { service: oap, selector: app=oap } }\n",
        r#"
switchyard.yaml:1:45: error: to.kubernetes.selector: does not go with `kind: endpointslices`
  1 | to: { kubernetes: { service: oap, selector: app=oap } }
    |                                             ^^^^^^^
  mend: remove it, or `service`
"#,
    );
    assert_says(
        "to: { kubernets: { selector: app=oap } }\n",
        r#"
switchyard.yaml:1:7: error: to: `kubernets` is no source
  1 | to: { kubernets: { selector: app=oap } }
    |       ^^^^^^^^^
  mend: did you mean `kubernetes`?
"#,
    );
    assert_says(
        "to: { kubernetes: { selector: app=oap }, etcd: { members: a, prefix: oap } }\n",
        r#"
switchyard.yaml:1:5: error: to: a source is all of a pool
  1 | to: { kubernetes: { selector: app=oap }, etcd: { members: a, prefix: oap…
    |     ^
  mend: give the others pools of their own under `pools:`
"#,
    );
    assert_says(
        "to: { kubernetes: { service: oap, api_server: 'http://10.0.0.1', token_file: t } }\n",
        r#"
switchyard.yaml:1:47: warning: to.kubernetes.api_server: the token is sent to it for everybody to read
  1 | …rvice: oap, api_server: 'http://10.0.0.1', token_file: t } }
    |                          ^^^^^^^^^^^^^^^^^
  mend: write https://, and its `ca`
"#,
    );
}

#[test]
fn what_is_wrong_with_etcd_is_told_with_place_and_mend() {
    assert_says(
        "to: etcd://a:2379\n",
        r#"
switchyard.yaml:1:5: error: to: every key of etcd would be a backend
  1 | to: etcd://a:2379
    |     ^^^^^^^^^^^^^
  mend: write what the keys of your collectors begin with, as in oap/
"#,
    );
    assert_says(
        "to: { etcd: { members: 'https://a:2379,b,b', prefix: / } }\n",
        r#"
switchyard.yaml:1:24: error: to.etcd.members: "https://a" is not a host
  1 | to: { etcd: { members: 'https://a:2379,b,b', prefix: / } }
    |                        ^^^^^^^^^^^^^^^^^^^^
  mend: write a:2379; `tls` beside it says how its certificate is known
switchyard.yaml:1:24: error: to.etcd.members: b:2379 is named twice
  1 | to: { etcd: { members: 'https://a:2379,b,b', prefix: / } }
    |                        ^^^^^^^^^^^^^^^^^^^^
  mend: name each member once
switchyard.yaml:1:54: error: to.etcd.prefix: every key of etcd would be a backend
  1 | to: { etcd: { members: 'https://a:2379,b,b', prefix: / } }
    |                                                      ^
  mend: write what the keys of your collectors begin with, as in oap/
"#,
    );
    assert_says(
        "to: { etcd: { tls: { certificate: us.pem }, username: us } }\n",
        r#"
switchyard.yaml:1:13: error: to.etcd.members: is needed
  1 | to: { etcd: { tls: { certificate: us.pem }, username: us } }
    |             ^
  mend: write `members: [etcd:2379]`
switchyard.yaml:1:13: error: to.etcd.prefix: is needed
  1 | to: { etcd: { tls: { certificate: us.pem }, username: us } }
    |             ^
  mend: write `prefix: oap/`
switchyard.yaml:1:20: error: to.etcd.tls.ca: is needed
  1 | to: { etcd: { tls: { certificate: us.pem }, username: us } }
    |                    ^
  mend: write `ca: FILE`, the certificates that may have signed the members' own
switchyard.yaml:1:35: error: to.etcd.tls.certificate: there is no `key` to it
  1 | to: { etcd: { tls: { certificate: us.pem }, username: us } }
    |                                   ^^^^^^
  mend: write `key: FILE`, too
switchyard.yaml:1:55: error: to.etcd.username: there is no `password` to it
  1 | to: { etcd: { tls: { certificate: us.pem }, username: us } }
    |                                                       ^^
  mend: write `password`, too
"#,
    );
}
