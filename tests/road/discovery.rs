//! Pools that follow a DNS name or a file under a load: who comes is used, who goes is left, nothing is lost.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use switchyard::config::{Overrides, Plan};
use switchyard::discovery::Source;
use switchyard::testkit::agents::{Load, Running};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::collector::{Collector, Options};
use switchyard::testkit::tally::Detail;

use crate::dns_server::{DnsServer, Service};
use crate::ground::{Road, assert_once_each, collector, eventually, max_over_mean};

const PATIENCE: Duration = Duration::from_secs(20);

/// How long after its going a backend may still get what was on its way.
const GOING: Duration = Duration::from_millis(100);

/// Of each of the eight agents: 20,000 messages a second in all where the build is made for speed.
const RATE: f64 = if cfg!(debug_assertions) { 300.0 } else { 2_500.0 };

/// Messages of a second.
const SECOND: u64 = RATE as u64 * 8;

const NAME: &str = "collectors.test";

/// A port on which as many collectors listen, each on an address of its own, as pods do.
fn on_one_port(count: u8) -> Vec<Collector> {
    let at = |host: u8, port: u16| {
        let listen = SocketAddr::from((Ipv4Addr::new(127, 0, 9, host), port));
        Collector::start(Options { listen, detail: Detail::Ids, ..Options::default() })
    };
    // The port that the first one gets may be taken on another address.
    for _ in 0..20 {
        let first = at(1, 0).unwrap();
        let port = first.address().port();
        let more: Result<Vec<Collector>, _> = (2..=count).map(|host| at(host, port)).collect();
        if let Ok(more) = more {
            return std::iter::once(first).chain(more).collect();
        }
    }
    panic!("no port is free on {count} addresses");
}

fn ips(road: &Road, collectors: &[usize]) -> Vec<IpAddr> {
    collectors.iter().map(|at| road.collectors[*at].address().ip()).collect()
}

fn names(road: &Road, collectors: &[usize]) -> Vec<String> {
    collectors.iter().map(|at| road.collectors[*at].address().to_string()).collect()
}

/// The source of the first pool is what an operator would write so.
fn follow(plan: &mut Plan, url: &str) {
    let (written, _) = Plan::from_flags(&Overrides { to: Some(url.to_owned()), ..Overrides::default() }).unwrap();
    assert_ne!(written.sources, [Source::Static], "{url}");
    plan.sources = written.sources;
    plan.pools[0].backends.clear();
}

/// A gateway that follows a name which no address is known of yet.
fn road_by_name(server: &DnsServer, collectors: u8) -> Road {
    let collectors = on_one_port(collectors);
    let url = format!("dns://{}/{NAME}:{}", server.address(), collectors[0].address().port());
    Road::through(collectors, &[], |plan| follow(plan, &url))
}

/// The same, with these addresses known and under a load that lasts until it is ended.
fn under_load(server: &DnsServer, collectors: u8, first: &[usize]) -> (Road, Running) {
    let road = road_by_name(server, collectors);
    server.answer(NAME, &ips(&road, first), 1);
    eventually("the name is followed", PATIENCE, || road.names() == names(&road, first));
    let running = Load { connections: 2, streams: 4, rate: RATE, ..road.load() }.start().unwrap();
    shares(&road, first, SECOND / 4);
    (road, running)
}

fn ends_well(road: Road, running: Running) {
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "agents notice nothing: {outcome:?}");
    road.wait_until_delivered(PATIENCE);
    assert_once_each(&road.verdict(&outcome));
    let summary = road.end();
    eprintln!("{:.0} messages a second, lost 0, duplicates 0", outcome.messages_per_s);
    assert_eq!(summary.totals.possible_duplicates, 0);
}

fn messages(road: &Road, collector: usize) -> u64 {
    road.collectors[collector].counts().messages
}

/// How many messages each of these got from now on, until they got so many.
fn shares(road: &Road, collectors: &[usize], until: u64) -> Vec<u64> {
    let before: Vec<u64> = collectors.iter().map(|at| messages(road, *at)).collect();
    let now = || collectors.iter().zip(&before).map(|(at, before)| messages(road, *at) - before).collect::<Vec<_>>();
    eventually("enough messages have come", PATIENCE, || now().iter().sum::<u64>() >= until);
    now()
}

/// What `/ready` says.
fn ready(road: &Road) -> String {
    let mut stream = TcpStream::connect(road.prometheus()).unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn addresses_that_come_get_their_share() {
    let server = DnsServer::start();
    let (road, running) = under_load(&server, 4, &[0, 1]);
    assert_eq!((messages(&road, 2), messages(&road, 3)), (0, 0));
    let changed = Instant::now();
    server.answer(NAME, &ips(&road, &[3, 2, 1, 0]), 1);
    eventually("the new ones are in use", PATIENCE, || messages(&road, 2) > 0 && messages(&road, 3) > 0);
    let in_use = changed.elapsed();
    shares(&road, &[0, 1, 2, 3], SECOND / 2);
    let fair = changed.elapsed();
    let shares = shares(&road, &[0, 1, 2, 3], SECOND * 2);
    eprintln!("in use {in_use:.2?} after the change; from {fair:.2?} on the shares are {shares:?}");
    assert!(max_over_mean(&shares) < 1.15, "{shares:?}");
    // Two seconds are the promise; twice that, since the machine may be busy with other things.
    assert!(in_use < Duration::from_secs(4), "{in_use:?}");
    ends_well(road, running);
}

#[test]
fn addresses_that_go_get_nothing_more_and_all_may_be_swapped() {
    let server = DnsServer::start();
    let (road, running) = under_load(&server, 5, &[0, 1, 2]);
    for (stay, gone) in [(vec![0, 2], vec![1]), (vec![3, 4], vec![0, 2]), (vec![0, 1], vec![3, 4])] {
        server.answer(NAME, &ips(&road, &stay), 1);
        eventually("the new answer is known", PATIENCE, || road.names() == names(&road, &stay));
        let known = Instant::now();
        std::thread::sleep(GOING);
        let left: Vec<u64> = gone.iter().map(|at| messages(&road, *at)).collect();
        let counted = known.elapsed();
        shares(&road, &stay, SECOND);
        let now: Vec<u64> = gone.iter().map(|at| messages(&road, *at)).collect();
        assert_eq!(now, left, "{gone:?} got messages later than {counted:?} after they had gone");
        let open = |at: &usize| road.collectors[*at].counts().connections_open;
        eventually("their channels close", PATIENCE, || gone.iter().map(open).sum::<u64>() == 0);
    }
    ends_well(road, running);
}

#[test]
fn a_server_that_answers_nothing_or_not_at_all_changes_nothing() {
    let server = DnsServer::start();
    let (road, running) = under_load(&server, 2, &[0, 1]);
    let silence = || server.silence(true);
    let nobody = || server.answer(NAME, &[], 1);
    let no_name = || server.nxdomain(NAME);
    let troubles: [(&str, &dyn Fn()); 3] = [("nobody", &nobody), ("no name", &no_name), ("silence", &silence)];
    for (trouble, begin) in troubles {
        begin();
        // A and AAAA, and both again: the first answer of this kind has been read by then.
        eventually(&format!("it was asked in spite of {trouble}"), PATIENCE, || server.asked() >= 4);
        assert_eq!(road.names(), names(&road, &[0, 1]), "{trouble}");
        let shares = shares(&road, &[0, 1], SECOND / 2);
        assert!(shares.iter().all(|share| *share > 0), "{trouble}: {shares:?}");
    }
    server.silence(false);
    server.answer(NAME, &ips(&road, &[1]), 1);
    eventually("it is followed again", PATIENCE, || road.names() == names(&road, &[1]));
    ends_well(road, running);
}

#[test]
fn a_gateway_starts_before_its_name_is_known_and_is_ready_once_it_is() {
    let server = DnsServer::start();
    let road = road_by_name(&server, 1);
    let said = ready(&road);
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("no backend of the pool default is known yet"), "{said}");
    let running = Load { rate: 100.0, ..road.load() }.start().unwrap();
    eventually("messages wait", PATIENCE, || road.snapshot().held > 20);
    server.answer(NAME, &ips(&road, &[0]), 1);
    eventually("they are delivered", PATIENCE, || road.snapshot().delivered > 100);
    eventually("it is ready", PATIENCE, || ready(&road).starts_with("HTTP/1.1 200"));
    ends_well(road, running);
}

#[test]
fn services_are_followed_with_their_hosts() {
    let server = DnsServer::start();
    let collectors: Vec<Collector> = (0..3).map(|_| collector(Behaviour::default())).collect();
    let ports: Vec<u16> = collectors.iter().map(|collector| collector.address().port()).collect();
    let service = |at: usize| {
        let target = ["oap-0.test", "oap-1.test", "oap-2.test"][at];
        Service { target, port: ports[at], weight: 10, priority: 5 }
    };
    for at in 0..3 {
        server.answer(service(at).target, &[Ipv4Addr::LOCALHOST.into()], 60);
    }
    server.srv("_grpc._tcp.oap.test", &[service(0), service(1)], 1);
    let url = format!("dns+srv://{}/_grpc._tcp.oap.test", server.address());
    let road = Road::through(collectors, &[], |plan| follow(plan, &url));
    let named = |at: &[usize]| at.iter().map(|at| format!("oap-{at}.test:{}", ports[*at])).collect::<Vec<_>>();
    eventually("the services are known", PATIENCE, || road.names() == named(&[0, 1]));
    let running = Load { connections: 2, streams: 2, rate: 200.0, ..road.load() }.start().unwrap();
    shares(&road, &[0, 1], 200);
    server.srv("_grpc._tcp.oap.test", &[service(2), service(1)], 1);
    eventually("the others are known", PATIENCE, || road.names() == named(&[1, 2]));
    shares(&road, &[2], 100);
    ends_well(road, running);
}

#[test]
fn a_reload_may_give_a_pool_another_source() {
    let server = DnsServer::start();
    let (mut road, running) = under_load(&server, 3, &[0]);
    let port = road.collectors[0].address().port();
    // The other name is not known yet: until it is, the pool keeps what it has.
    let other = format!("dns://{}/others.test:{port}", server.address());
    road.reload(|plan| follow(plan, &other));
    eventually("the other name is asked for", PATIENCE, || server.asked() >= 4);
    shares(&road, &[0], SECOND / 4);
    server.answer("others.test", &ips(&road, &[1]), 1);
    eventually("it is followed", PATIENCE, || road.names() == names(&road, &[1]));
    let third = crate::ground::found(&road.collectors[2]);
    road.reload(|plan| {
        plan.sources = vec![Source::Static];
        plan.pools[0].backends = vec![third];
    });
    assert_eq!(road.names(), names(&road, &[2]), "what is named is known at once");
    server.answer("others.test", &ips(&road, &[0, 1]), 1);
    shares(&road, &[2], SECOND / 2);
    assert_eq!((road.names(), server.asked()), (names(&road, &[2]), 0), "nobody asks for the name any more");
    ends_well(road, running);
}

#[test]
fn a_file_is_followed_and_a_bad_one_is_not() {
    let collectors: Vec<Collector> = (0..2).map(|_| collector(Behaviour::default())).collect();
    let path = std::env::temp_dir().join(format!("switchyard-followed-{}.yaml", std::process::id()));
    let list = |collectors: &[&Collector]| {
        let beside = path.with_extension("new");
        let lines: Vec<String> = collectors.iter().map(|collector| format!("- {}\n", collector.address())).collect();
        std::fs::write(&beside, lines.concat()).unwrap();
        std::fs::rename(&beside, &path).unwrap();
    };
    list(&[&collectors[0]]);
    let url = format!("file://{}", path.display());
    let road = Road::through(collectors, &[], |plan| follow(plan, &url));
    eventually("the file is read", PATIENCE, || road.names() == names(&road, &[0]));
    let running = Load { connections: 2, streams: 2, rate: 200.0, ..road.load() }.start().unwrap();
    shares(&road, &[0], 100);
    std::fs::write(&path, "- nobody").unwrap();
    // Two looks, so that the bad file has been seen.
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(road.names(), names(&road, &[0]));
    list(&[&road.collectors[1]]);
    eventually("the file is read again", PATIENCE, || road.names() == names(&road, &[1]));
    shares(&road, &[1], 100);
    std::fs::remove_file(&path).unwrap();
    ends_well(road, running);
}
