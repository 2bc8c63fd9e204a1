//! Every wrong way to connect to the gateway is refused, counted, and told with its reason.

use std::time::Duration;

use super::peer::{PREFACE, Peer, say};
use super::{Certificates, eventually, has_said, write_of_strangers};

const PATIENCE: Duration = Duration::from_secs(20);

/// A ClientHello of TLS 1.1: two ciphers of its time, no extensions.
const HELLO_OF_TLS_1_1: &[u8] = &[
    22, 3, 1, 0, 47, // a handshake record of 47 bytes
    1, 0, 0, 43, 3, 2, // ClientHello of 43 bytes, version 3.2: TLS 1.1
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, // random
    0,  // no session
    0, 4, 0, 0x2f, 0, 0x35, // RSA with AES-128 and AES-256
    1, 0, // no compression
];

#[test]
fn every_wrong_way_to_connect_is_refused_and_told_with_its_reason() {
    let certificates = Certificates::new("tls-agents");
    let directory = certificates.scratch.path();
    let signs = &certificates.authority;
    signs.sign_expired(&["shop.agents.local"]).write(directory, "expired");
    signs.sign(&["stranger.local"]).write(directory, "stranger");
    signs.sign(&["spiffe://mesh/ns/shop/sa/agent"]).write(directory, "workload");
    write_of_strangers(directory, "foreign", &["shop.agents.local"]);
    let mut gateway = certificates.gateway(
        "  agents:\n    address: AGENTS\n    tls: { certificate: gateway.crt, key: gateway.key, client_ca: ca.crt, \
         allow: ['*.agents.local', 'spiffe://mesh/ns/*/sa/agent'] }\n  \
         metrics: METRICS\n  access_logs: off\n  prometheus: PROMETHEUS",
        "to: 127.0.0.1:9",
    );
    let good = Peer::new(&certificates);
    good.greet(gateway.agents).expect("a good one is let in by its name");
    good.clone().shows(&certificates, "workload").greet(gateway.agents).expect("and by its URI");
    let refused = || gateway.metric("switchyard_connections_refused_total");
    assert_eq!(refused(), 0.0);

    let wrong = [
        ("shows no certificate", Peer { pair: None, ..good.clone() }),
        ("is not signed by an authority in listen.agents.tls.client_ca", good.clone().shows(&certificates, "foreign")),
        ("its certificate expired on 2020-02-29", good.clone().shows(&certificates, "expired")),
        ("for stranger.local; listen.agents.tls.allow lets none in", good.clone().shows(&certificates, "stranger")),
        ("does not take our certificate (UnknownCA)", {
            Peer { authorities: certificates.path("foreign-ca.crt"), ..good.clone() }
        }),
        ("does not take our certificate (BadCertificate)", Peer { name: "elsewhere.local", ..good.clone() }),
        ("does not offer HTTP/2 (ALPN h2)", Peer { alpn: vec![], ..good.clone() }),
        ("does not offer HTTP/2 (ALPN h2)", Peer { alpn: vec![b"http/1.1"], ..good.clone() }),
    ];
    let mut count = 0.0;
    for (why, peer) in wrong {
        let outcome = peer.greet(gateway.agents);
        assert!(outcome.is_err(), "{why}: it was let in");
        count += 1.0;
        eventually(why, PATIENCE, || {
            has_said(&gateway.process, &["connection refused: TLS", "agents", "127.0.0.1:", why])
        });
        eventually("it is counted", PATIENCE, || refused() == count);
    }
    let fatal_alert = [21, 3, 3, 0, 2, 2];
    assert!(say(gateway.agents, HELLO_OF_TLS_1_1).starts_with(&fatal_alert));
    say(gateway.agents, PREFACE);
    for why in ["it speaks TLS 1.1 or older", "what it said is no TLS"] {
        eventually(why, PATIENCE, || has_said(&gateway.process, &["connection refused: TLS", why]));
    }
    eventually("they are counted", PATIENCE, || refused() == count + 2.0);
    good.greet(gateway.agents).expect("good ones are let in as before");
    gateway.end(Duration::from_secs(10));
}

#[test]
fn tls_on_a_port_without_is_told_for_what_it_is_and_a_probe_of_the_port_is_no_trouble() {
    let certificates = Certificates::new("tls-plain-port");
    let mut gateway = certificates
        .gateway("  agents: AGENTS\n  metrics: off\n  access_logs: off\n  prometheus: PROMETHEUS", "to: 127.0.0.1:9");
    assert!(Peer::new(&certificates).greet(gateway.agents).is_err());
    let why = "it speaks TLS, and this port has none";
    eventually(why, PATIENCE, || has_said(&gateway.process, &["connection refused: TLS", why]));
    gateway.end(Duration::from_secs(10));

    let mut gateway = certificates.gateway(
        "  agents: { address: AGENTS, tls: { certificate: gateway.crt, key: gateway.key } }\n  \
         metrics: off\n  access_logs: off\n  prometheus: PROMETHEUS",
        "to: 127.0.0.1:9",
    );
    drop(std::net::TcpStream::connect(gateway.agents).unwrap());
    eventually("it is counted", PATIENCE, || gateway.metric("switchyard_connections_refused_total") == 1.0);
    assert!(!has_said(&gateway.process, &["refused"]), "{:#?}", gateway.process.said());
    gateway.end(Duration::from_secs(10));
}
