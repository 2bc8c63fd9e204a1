//! TLS on the road: messages by it, certificates that change under load, and every wrong handshake refused with its reason.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use switchyard::metrics;
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::collector::{Collector, Options};
use switchyard::testkit::tally::Detail;
use switchyard::wire::tls::{
    ClientCertificate, ClientSettings, ClientTls, Look, Pair, Pattern, Protocol, ServerSettings, ServerTls,
};

use super::authority::Authority;
use super::ground::{Road, assert_once_each, eventually};
use super::process::{GatewayProcess, Process, Scratch, free_addresses, get};

mod agents;
mod backends;
mod peer;

use peer::Peer;

/// What a collector of an etcd-like cluster is called, though it is reached as 127.0.0.1.
const MEMBER: &str = "member1.etcd.local";

/// A directory with an authority and what it signed.
struct Certificates {
    authority: Authority,
    scratch: Scratch,
}

impl Certificates {
    fn new(test: &str) -> Self {
        let (authority, scratch) = (Authority::new("ours"), Scratch::new(test));
        std::fs::write(scratch.path().join("ca.crt"), authority.pem()).unwrap();
        authority.sign(&["127.0.0.1", "gateway.local"]).write(scratch.path(), "gateway");
        authority.sign(&[MEMBER]).write(scratch.path(), "collector");
        authority.sign(&["shop.agents.local"]).write(scratch.path(), "agent");
        Self { authority, scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn pair(&self, name: &str) -> Pair {
        Pair { certificate: self.path(&format!("{name}.crt")), key: self.path(&format!("{name}.key")) }
    }

    /// TLS of a port that shows this certificate and wants one in return.
    fn server(&self, name: &str, allow: &[&str]) -> Arc<ServerTls> {
        let settings = ServerSettings {
            setting: format!("listen.{name}.tls"),
            pair: self.pair(name),
            client_authorities: Some(self.path("ca.crt")),
            client_certificate: ClientCertificate::Required,
            allow: allow.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
            protocol: Protocol::Http2,
        };
        Arc::new(ServerTls::load(settings).expect("good files").0)
    }

    fn client_settings(&self, name: &str, server_name: Option<&str>) -> ClientSettings {
        ClientSettings {
            setting: "pool.tls".to_owned(),
            authorities: Some(self.path("ca.crt")),
            pair: Some(self.pair(name)),
            server_name: server_name.map(str::to_owned),
            verify: true,
            protocol: Protocol::Http2,
        }
    }

    fn client(&self, name: &str, server_name: Option<&str>) -> Arc<ClientTls> {
        Arc::new(ClientTls::load(self.client_settings(name, server_name)).expect("good files").0)
    }

    /// A collector that wants a certificate.
    fn collector(&self) -> Collector {
        let tls = Some(self.server("collector", &[]));
        Collector::start(Options { detail: Detail::Ids, tls, ..Options::default() }).expect("a free port can be had")
    }

    /// The gateway between agents and collectors, mutual TLS on both sides.
    fn road(&self, collectors: usize) -> (Road, Arc<ServerTls>, Arc<ClientTls>) {
        let (server, client) = (self.server("gateway", &["*.agents.local"]), self.client("gateway", Some(MEMBER)));
        let collectors = (0..collectors).map(|_| self.collector()).collect();
        let road = Road::through(collectors, &[], |plan| {
            plan.listeners[0].tls = Some(Arc::clone(&server));
            plan.pools[0].tls = Some(Arc::clone(&client));
        });
        (road, server, client)
    }

    fn load(&self, road: &Road) -> Load {
        Load { tls: Some(self.client("agent", None)), ..road.load() }
    }

    /// A gateway in a process of its own; `ports` is what its agents' ports say, `more` the rest of its file.
    fn gateway(&self, ports: &str, more: &str) -> GatewayProcess {
        let [agents, access_logs, metrics, prometheus, admin] = free_addresses();
        let ports = ports
            .replace("AGENTS", &agents.to_string())
            .replace("ACCESS_LOGS", &access_logs.to_string())
            .replace("METRICS", &metrics.to_string())
            .replace("PROMETHEUS", &prometheus.to_string());
        let file = self.path("switchyard.yaml");
        std::fs::write(&file, format!("listen:\n  admin: {admin}\n{ports}\n{more}\nworkers: 2\n")).unwrap();
        let process = Process::switchyard(&["run", "-c", file.to_str().unwrap()]);
        eventually("the gateway is ready", Duration::from_secs(20), || {
            get(admin, "/ready").is_some_and(|(status, _)| status == 200)
        });
        GatewayProcess { process, agents, prometheus, admin }
    }
}

#[test]
fn messages_of_any_size_travel_by_tls_to_the_gateway_and_by_mutual_tls_to_collectors() {
    let certificates = Certificates::new("tls-flow");
    for (messages, bytes, traffic) in
        [(500, 60, Traffic::Mixed), (500, 5_000, Traffic::Trace), (20, 200_000, Traffic::Trace)]
    {
        let (road, ..) = certificates.road(2);
        let load = Load { connections: 3, streams: 4, messages, messages_per_stream: 100, ..certificates.load(&road) };
        let outcome = Load { bytes, traffic, ..load }.start().unwrap().wait();
        assert_eq!((outcome.errors.len(), outcome.unreached, outcome.connects), (0, 0, 3), "{outcome:?}");
        road.wait_until_delivered(Duration::from_secs(30));
        assert_once_each(&road.verdict(&outcome));
        road.end();
    }
}

#[test]
fn certificates_that_change_a_hundred_times_under_load_drop_nobody() {
    const SWAPS: usize = 100;
    let certificates = Certificates::new("tls-swaps");
    let (road, server, client) = certificates.road(2);
    let load = Load { connections: 4, streams: 4, messages: 0, rate: 200.0, ..certificates.load(&road) };
    let running = load.start().unwrap();
    eventually("messages flow", Duration::from_secs(20), || running.sent() > 100);
    for swap in 0..SWAPS {
        let signed = certificates.authority.sign(&["127.0.0.1", "gateway.local"]);
        signed.write(certificates.scratch.path(), "gateway");
        // Or the gateway, which looks as well, was first.
        for look in [server.refresh(), client.refresh()] {
            assert_ne!(look, Look::Kept, "swap {swap}");
        }
        let shown = Peer::new(&certificates).shown_by(road.agents());
        assert_eq!(shown, peer::der(&signed.certificate), "who connects now is shown the new certificate");
    }
    assert_eq!((server.refresh(), client.refresh()), (Look::Same, Look::Same));
    let outcome = running.stop();
    assert_eq!((outcome.connects, outcome.unreached), (4, 0), "connections outlive the certificate they began with");
    road.wait_until_delivered(Duration::from_secs(30));
    assert_once_each(&road.verdict(&outcome));
    road.end();
}

#[test]
fn a_running_gateway_takes_good_new_files_and_keeps_the_old_ones_when_new_ones_are_no_good() {
    const LEFT: Duration = Duration::from_secs(30 * 86_400);
    let certificates = Certificates::new("tls-watch");
    // As Kubernetes mounts a secret: files are links into a directory that is swapped by its own link.
    let versions = |version: &str| certificates.path(version);
    for version in ["v1", "v2", "v3"] {
        std::fs::create_dir(versions(version)).unwrap();
        certificates.authority.sign_for(&["127.0.0.1"], LEFT).write(&versions(version), "tls");
    }
    let key_of_another = std::fs::read(versions("v3").join("tls.key")).unwrap();
    std::fs::write(versions("v2").join("tls.key"), key_of_another).unwrap();
    let swap = |version: &str| {
        let (link, new) = (certificates.path("..data"), certificates.path("..new"));
        std::os::unix::fs::symlink(versions(version), &new).unwrap();
        std::fs::rename(&new, &link).unwrap();
    };
    swap("v1");
    let mut gateway = certificates.gateway(
        "  agents: { address: AGENTS, tls: { certificate: ..data/tls.crt, key: ..data/tls.key } }\n  \
         access_logs: off\n  metrics: off\n  prometheus: PROMETHEUS",
        "to: 127.0.0.1:9",
    );
    let certificate_of =
        |version: &str| peer::der(&std::fs::read_to_string(versions(version).join("tls.crt")).unwrap());
    let shown = || Peer::new(&certificates).shown_by(gateway.agents);
    assert_eq!(shown(), certificate_of("v1"));
    swap("v2");
    let line = gateway.process.wait_for_line("new certificates are no good; the old ones stay in use");
    assert!(line.contains("is not the key of"), "{line}");
    assert_eq!(shown(), certificate_of("v1"));
    swap("v3");
    gateway.process.wait_for_line("new certificates are in use");
    assert_eq!(shown(), certificate_of("v3"));
    let (_, metrics) = get(gateway.prometheus, "/metrics").unwrap();
    for line in [
        "switchyard_tls_reloads_total{setting=\"listen.agents.tls\",result=\"failed\"} 1",
        "switchyard_tls_reloads_total{setting=\"listen.agents.tls\",result=\"swapped\"} 1",
    ] {
        assert!(metrics.lines().any(|shown| shown.starts_with(line)), "no {line} in\n{metrics}");
    }
    let expiry = gateway.metric("switchyard_tls_certificate_expiry_seconds") - LEFT.as_secs_f64();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - expiry;
    assert!((0.0..600.0).contains(&since), "it was signed {since} s ago");
    gateway.end(Duration::from_secs(10));
}

#[test]
fn files_that_are_written_one_after_the_other_are_complained_of_only_when_they_stay_wrong() {
    let certificates = Certificates::new("tls-between");
    let server = certificates.server("agent", &[]);
    let failed = || {
        let text = metrics::install().render();
        let is_it = |line: &&str| {
            line.starts_with("switchyard_tls_reloads_total{setting=\"listen.agent.tls\",result=\"failed\"}")
        };
        text.lines().find(is_it).map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
    };
    let before = failed();
    let signed = certificates.authority.sign(&["127.0.0.1"]);
    std::fs::write(certificates.path("agent.crt"), &signed.certificate).unwrap();
    assert_eq!((server.refresh(), failed() - before), (Look::Kept, 0), "the key may be on its way");
    std::fs::write(certificates.path("agent.key"), &signed.key).unwrap();
    assert_eq!((server.refresh(), failed() - before), (Look::Swapped, 0));
    std::fs::remove_file(certificates.path("agent.key")).unwrap();
    assert_eq!((server.refresh(), failed() - before), (Look::Kept, 0));
    for _ in 0..3 {
        assert_eq!((server.refresh(), failed() - before), (Look::Kept, 1), "it stays wrong, and is told once");
    }
    std::fs::write(certificates.path("agent.key"), &signed.key).unwrap();
    assert_eq!((server.refresh(), failed() - before), (Look::Same, 1));
}

#[test]
fn a_plan_may_bring_tls_and_take_it_away_while_messages_flow() {
    let certificates = Certificates::new("tls-reload");
    let mut road = Road::to_collectors(1);
    let running = Load { streams: 2, rate: 300.0, ..road.load() }.start().unwrap();
    eventually("messages flow", Duration::from_secs(20), || running.sent() > 50);
    let peer = Peer::new(&certificates);
    assert!(peer.greet(road.agents()).is_err(), "no TLS yet");
    road.reload(|plan| plan.listeners[0].tls = Some(certificates.server("gateway", &[])));
    peer.greet(road.agents()).expect("TLS from now on");
    let late = Load { name: "late".to_owned(), messages: 100, messages_per_stream: 50, ..certificates.load(&road) };
    let by_tls = late.start().unwrap();
    assert_eq!(by_tls.wait().errors.len(), 0);
    road.reload(|plan| plan.listeners[0].tls = None);
    assert!(peer.greet(road.agents()).is_err(), "no TLS any more");
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.connects), (0, 1), "who was there stays: {outcome:?}");
    road.wait_until_delivered(Duration::from_secs(20));
    assert_eq!(road.verdict(&outcome).lost, 0);
    road.end();
}

#[test]
fn the_tools_speak_tls_and_so_does_a_health_check() {
    let certificates = Certificates::new("tls-tools");
    let file = |name: &str| certificates.path(name).to_str().unwrap().to_owned();
    let listen = free_addresses::<1>()[0].to_string();
    let collector = Process::switchyard(&[
        "collector",
        "--listen",
        &listen,
        "--tls-certificate",
        &file("collector.crt"),
        "--tls-key",
        &file("collector.key"),
        "--tls-client-ca",
        &file("ca.crt"),
    ]);
    collector.wait_for_line("collector listening on ");
    let mut gateway = certificates.gateway(
        "  agents: { address: AGENTS, tls: { certificate: gateway.crt, key: gateway.key, client_ca: ca.crt } }\n  \
         access_logs: off\n  metrics: off\n  \
         prometheus: { address: PROMETHEUS, tls: { certificate: gateway.crt, key: gateway.key } }",
        &format!(
            "to: '{listen}'\n\
             pool: {{ tls: {{ ca: ca.crt, certificate: gateway.crt, key: gateway.key, server_name: {MEMBER} }} }}"
        ),
    );
    let to = gateway.agents.to_string();
    let sent = Process::switchyard(&[
        "agents",
        "--to",
        &to,
        "--messages",
        "100",
        "--messages-per-stream",
        "20",
        "--tls-ca",
        &file("ca.crt"),
        "--tls-certificate",
        &file("agent.crt"),
        "--tls-key",
        &file("agent.key"),
    ])
    .wait(Duration::from_secs(30));
    assert!(sent.success(), "{:#?}", gateway.process.said());
    let url = format!("https://{}/ready", gateway.prometheus);
    let is_ready = |more: &[&str]| {
        Process::switchyard(&[&["healthcheck", "--timeout", "20", "--url", &url], more].concat())
            .wait(Duration::from_secs(30))
            .success()
    };
    assert!(is_ready(&[]), "on loopback nobody's authority is needed");
    assert!(is_ready(&["--ca", &file("ca.crt")]));
    assert!(is_ready(&["--ca", &file("ca.crt"), "--server-name", "gateway.local"]));
    assert!(!is_ready(&["--ca", &file("ca.crt"), "--server-name", "other.local"]));
    assert!(!is_ready(&["--ca", &file("agent.crt")]), "an authority that is given is asked");
    // The port is by TLS, so the books are read where it is not.
    let snapshot = gateway.snapshot();
    assert_eq!((snapshot.received, snapshot.lost_total), (100, 0));
    gateway.end(Duration::from_secs(10));
}

/// Whether one of the lines a process said has all of these words.
fn has_said(process: &Process, words: &[&str]) -> bool {
    process.said().iter().any(|line| words.iter().all(|word| line.contains(word)))
}

/// Writes what an authority of its own signed for `names` as NAME.crt and NAME.key, and the authority as NAME-ca.crt.
fn write_of_strangers(directory: &Path, name: &str, names: &[&str]) {
    let stranger = Authority::new("somebody else");
    stranger.sign(names).write(directory, name);
    std::fs::write(directory.join(format!("{name}-ca.crt")), stranger.pem()).unwrap();
}
