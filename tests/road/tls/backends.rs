//! Every wrong backend is refused, and told with the setting that mends it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use switchyard::testkit::collector::{Collector, Options};
use switchyard::wire::client::{Connection, Target};
use switchyard::wire::tls::{ClientSettings, ClientTls, Refusal};

use super::{Certificates, Load, MEMBER, Path, eventually, has_said, write_of_strangers};

const PATIENCE: Duration = Duration::from_secs(20);

/// What comes of opening a connection as a pool with these settings does.
fn open(to: SocketAddr, settings: Option<ClientSettings>) -> Result<(), String> {
    let tls = settings.map(|settings| ClientTls::load(settings).expect("good files").0);
    let target = Target { host: "127.0.0.1", port: to.port(), tls: tls.as_ref(), server_name: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(Connection::open(target, PATIENCE, PATIENCE)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Refusal::of(&error).map_or_else(|| format!("NO REFUSAL: {error}"), Refusal::to_string)),
    }
}

#[track_caller]
fn assert_refused(to: SocketAddr, settings: Option<ClientSettings>, why: &str) {
    let said = open(to, settings).expect_err(why);
    assert!(said.contains(why), "{said:?} should have {why:?}");
}

/// Somebody who reads a little and says these bytes to one caller.
fn answers(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(bytes);
    });
    address
}

#[test]
fn every_wrong_backend_is_refused_with_the_setting_that_mends_it() {
    let certificates = Certificates::new("tls-backends");
    let directory: &Path = certificates.scratch.path();
    certificates.authority.sign_expired(&[MEMBER]).write(directory, "expired");
    write_of_strangers(directory, "foreign", &[MEMBER]);
    let collector = certificates.collector();
    let right = certificates.client_settings("gateway", Some(MEMBER));
    let (to, with) = (collector.address(), |change: &dyn Fn(&mut ClientSettings)| {
        let mut settings = right.clone();
        change(&mut settings);
        Some(settings)
    });
    open(to, Some(right.clone())).expect("a right one is taken");

    let why = "its certificate is for member1.etcd.local, not for 127.0.0.1; if it is the right one, set \
               pool.tls.server_name to a name it has";
    assert_refused(to, with(&|settings| settings.server_name = None), why);
    let foreign = |settings: &mut ClientSettings| settings.authorities = Some(certificates.path("foreign-ca.crt"));
    let why = "its certificate is not signed by an authority in pool.tls.ca";
    assert_refused(to, with(&foreign), why);
    let why = "it wants a certificate of ours (CertificateRequired); set pool.tls.certificate and pool.tls.key";
    assert_refused(to, with(&|settings| settings.pair = None), why);
    let stranger = |settings: &mut ClientSettings| settings.pair = Some(certificates.pair("foreign"));
    assert_refused(to, with(&stranger), "it does not take our certificate, ");
    assert_refused(to, None, "it speaks TLS, and its pool has none; give the pool `tls`");
    let anybody = |settings: &mut ClientSettings| (settings.verify, settings.server_name) = (false, None);
    open(to, with(&anybody)).expect("whoever does not look takes anybody");

    let expired = super::peer::shows(&certificates.pair("expired"));
    assert_refused(expired, Some(right.clone()), "its certificate expired on 2020-02-29");
    let http1 = super::ServerSettings {
        setting: "collector".to_owned(),
        pair: certificates.pair("collector"),
        client_authorities: None,
        client_certificate: super::ClientCertificate::Required,
        allow: Vec::new(),
        protocol: super::Protocol::Http1,
    };
    let http1 = super::ServerTls::load(http1).unwrap().0;
    let options = Options { tls: Some(std::sync::Arc::new(http1)), ..Options::default() };
    let http1 = Collector::start(options).unwrap();
    assert_refused(http1.address(), Some(right.clone()), "does not offer HTTP/2 (ALPN h2)");

    let plain = Collector::start(Options::default()).unwrap();
    let why = "it speaks no TLS; remove pool.tls, or send to its TLS port";
    assert_refused(plain.address(), Some(right.clone()), why);
    assert_refused(answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Some(right.clone()), why);
    assert_refused(answers(b""), Some(right.clone()), "it hung up in the middle of the handshake");
    let version_alert = answers(&[21, 3, 1, 0, 2, 2, 70]);
    assert_refused(version_alert, Some(right), "it speaks TLS 1.1 or older");
}

#[test]
fn a_gateway_whose_backend_has_another_name_logs_the_name_and_the_setting() {
    let certificates = Certificates::new("tls-backend-log");
    let collector = certificates.collector();
    let mut gateway = certificates.gateway(
        "  agents: AGENTS\n  metrics: off\n  access_logs: off\n  prometheus: PROMETHEUS",
        &format!(
            "to: '{}'\npool: {{ tls: {{ ca: ca.crt, certificate: gateway.crt, key: gateway.key }} }}\ndrain_deadline: 2s",
            collector.address()
        ),
    );
    let load = Load { to: gateway.agents.to_string(), messages: 10, ..Load::default() };
    let outcome = load.start().unwrap().wait();
    assert_eq!(outcome.errors.len(), 0, "agents hear nothing of it: {outcome:?}");
    let port = format!("\"port\":{}", collector.address().port());
    let words = ["backend refused: TLS", MEMBER, "pool.tls.server_name", &port];
    eventually("the log says how to mend it", PATIENCE, || has_said(&gateway.process, &words));
    gateway.process.kill();
}
