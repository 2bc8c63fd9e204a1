//! What an operator says over HTTP is done, and nobody else may say it.

use std::net::SocketAddr;
use std::time::Duration;

use switchyard::admin::Token;
use switchyard::testkit::agents::Load;
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::collector::Collector;

use crate::ground::{Road, assert_once_each, collector, eventually};
use crate::http::{Answer, ask};
use crate::process::{GatewayProcess, Scratch};

const TOKEN: &str = "0123456789abcdef";

fn post(to: SocketAddr, path: &str) -> Answer {
    ask(to, "POST", path, &[], "")
}

#[test]
fn a_drained_backend_gets_nothing_more_finishes_what_it_has_and_is_let_go() {
    // Answers take longer than the test waits for silence, so that trips are open when the backend is drained.
    let slow = Behaviour { answer_delay: Duration::from_millis(300), ..Behaviour::default() };
    let road = Road::through((0..3).map(|_| collector(slow.clone())).collect(), &[], |_| {});
    let first = &road.collectors[0];
    let name = first.address().to_string();
    let running = Load { connections: 4, streams: 2, rate: 250.0, ..road.load() }.start().unwrap();
    eventually("the backend gets messages", Duration::from_secs(10), || first.counts().messages > 200);
    assert!(first.counts().connections_open > 0);

    let drained = post(road.admin(), &format!("/backends/{}/drain", name.replace(':', "%3A")));
    assert_eq!(drained.status, 200, "{drained:?}");
    std::thread::sleep(Duration::from_millis(100));
    let soon = first.counts().messages;
    let state =
        |road: &Road| road.snapshot().backends.iter().find(|backend| backend.name == name).unwrap().state.clone();
    assert_eq!(state(&road), "draining");
    eventually("its channels close", Duration::from_secs(10), || first.counts().connections_open == 0);
    let at_most = first.counts().messages;
    assert!(at_most <= soon + 64, "what was on its way 100 ms after the answer is a parcel at most: {soon} {at_most}");
    let before = road.collectors[1].counts().messages;
    eventually("the others go on", Duration::from_secs(10), || road.collectors[1].counts().messages > before + 200);
    assert_eq!(first.counts().messages, at_most, "a drained backend gets no further message");
    assert_eq!(first.counts().broken, 0, "its trips were finished");

    let undrained = post(road.admin(), &format!("/backends/{name}/undrain?pool=default"));
    assert_eq!((undrained.status, state(&road).as_str()), (200, "up"), "{undrained:?}");
    eventually("it gets messages again", Duration::from_secs(10), || first.counts().messages > at_most + 100);
    let outcome = running.stop();
    road.wait_until_delivered(Duration::from_secs(10));
    assert_once_each(&road.verdict(&outcome));
    assert_eq!(road.end().totals.possible_duplicates, 0);
}

#[test]
fn a_name_that_is_none_is_answered_with_those_there_are() {
    let road = Road::to_collectors(2);
    let name = road.collectors[1].address().to_string();
    let wrong = format!("{}x", &name[..name.len() - 1]);
    let answer = post(road.admin(), &format!("/backends/{wrong}/drain"));
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("did you mean 127.0.0.1:") && answer.body.contains(&name), "{}", answer.body);
    assert_eq!(post(road.admin(), &format!("/backends/{name}/drain?pool=nowhere")).status, 404);
    assert_eq!(post(road.admin(), &format!("/backends/{name}/drain?pol=default")).status, 400);
    assert!(road.snapshot().backends.iter().all(|backend| backend.state == "up"));
    road.end();
}

#[test]
fn reading_changes_nothing() {
    let road = Road::to_collectors(1);
    let name = road.collectors[0].address().to_string();
    for verb in ["/reload".to_owned(), "/drain".to_owned(), "/log-level".to_owned(), format!("/backends/{name}/drain")]
    {
        for method in ["GET", "HEAD"] {
            let answer = ask(road.admin(), method, &verb, &[], "");
            assert_eq!(answer.status, 405, "{method} {verb}");
            assert!(method == "HEAD" || answer.body.contains("mend: "), "{answer:?}");
        }
        assert_eq!(ask(road.admin(), "DELETE", &verb, &[], "").status, 405, "{verb}");
    }
    assert!(road.snapshot().backends.iter().all(|backend| backend.state == "up"));
    road.end();
}

/// Every path that changes something, and paths that a careless server would take for one of them.
const PATHS: [&str; 14] = [
    "/reload",
    "/drain",
    "/log-level?level=info",
    "/backends/127.0.0.1:1/drain",
    "/backends/127.0.0.1:1/undrain",
    "//reload",
    "/reload/",
    "/%72eload",
    "/RELOAD",
    "/./reload",
    "/ready/../reload",
    "/backends//drain",
    "/backends/..%2f..%2freload/drain",
    "/nowhere",
];

#[test]
fn nobody_without_the_right_token_changes_anything_whatever_the_path() {
    // A port on 0.0.0.0 is one that others can reach, also when asked from loopback.
    for (bound, has_token) in [("127.0.0.1:0", true), ("0.0.0.0:0", true), ("127.0.0.1:0", false), ("0.0.0.0:0", false)]
    {
        let road = Road::to_collectors_with(1, |plan| {
            plan.admin = Some(bound.parse().unwrap());
            plan.admin_token = has_token.then(|| Token::new(TOKEN).unwrap());
        });
        let right = format!("Bearer {TOKEN}");
        let is_local = bound.starts_with("127");
        for path in PATHS {
            let none = ask(road.admin(), "POST", path, &[], "");
            let expected = match (has_token, is_local) {
                (true, _) => Some(401),
                (false, false) => Some(403),
                (false, true) => None,
            };
            match expected {
                Some(status) => assert_eq!(none.status, status, "{bound} {has_token} {path}: {none:?}"),
                None => assert!(![401, 403].contains(&none.status), "{bound} {path}: {none:?}"),
            }
            let brought = ask(road.admin(), "POST", path, &[("authorization", &right)], "");
            let is_let_in = has_token || is_local;
            assert_eq!(![401, 403].contains(&brought.status), is_let_in, "{bound} {has_token} {path}: {brought:?}");
            // Nothing is there to be changed by these: what was let in was told so.
            let is_verb = PATHS[..5].contains(&path);
            assert!(
                !is_let_in || [if is_verb { 503 } else { 404 }, 404].contains(&brought.status),
                "{path}: {brought:?}"
            );
        }
        if has_token {
            let wrong = ask(road.admin(), "POST", "/reload", &[("authorization", "Bearer 0123456789abcdeg")], "");
            assert_eq!((wrong.status, wrong.header("www-authenticate").is_some()), (401, true), "{wrong:?}");
            let in_url = ask(road.admin(), "POST", &format!("/reload?token={TOKEN}"), &[("authorization", &right)], "");
            assert_eq!(in_url.status, 400, "{in_url:?}");
        }
        // Who may not change anything may still probe.
        assert_eq!(ask(road.admin(), "GET", "/ready", &[], "").status, 200);
        road.end();
    }
}

#[test]
fn a_page_of_another_site_neither_reads_nor_changes_what_this_machine_may() {
    let road = Road::to_collectors(1);
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(ask(road.admin(), "POST", "/reload", &foreign, "").status, 403);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(ask(road.admin(), "POST", "/reload", &form, "a=b").status, 403);
    let rebound = [("host", "evil.example:9901")];
    assert_eq!(ask(road.admin(), "POST", "/reload", &rebound, "").status, 403);
    for path in ["/", "/snapshot"] {
        assert_eq!(ask(road.admin(), "GET", path, &rebound, "").status, 403, "{path}");
        assert_eq!(ask(road.admin(), "GET", path, &[], "").status, 200, "{path}");
    }
    assert_eq!(ask(road.admin(), "OPTIONS", "/reload", &foreign, "").status, 403);
    road.end();
}

#[test]
fn too_large_a_body_is_not_read() {
    let road = Road::to_collectors(1);
    let answer = ask(road.admin(), "PUT", "/log-level", &[], &"x".repeat(8 << 10));
    assert_eq!(answer.status, 413, "{answer:?}");
    road.end();
}

/// A gateway in a process of its own, and what it needs.
fn process(name: &str) -> (Scratch, Collector, GatewayProcess) {
    let scratch = Scratch::new(name);
    let collector = collector(Behaviour::default());
    let gateway = GatewayProcess::start(scratch.path(), &[collector.address()], "");
    (scratch, collector, gateway)
}

#[test]
fn the_log_says_who_said_what_and_what_came_of_it() {
    let (_scratch, collector, gateway) = process("verbs-log");
    let put = |level: &str| ask(gateway.admin, "PUT", "/log-level", &[], level);
    assert_eq!((put("info,switchyard=debug").status, put("loud").status), (200, 400));
    assert!(put("loud").body.contains("mend: write one of error"), "{}", put("loud").body);
    assert_eq!(post(gateway.admin, &format!("/backends/{}/drain", collector.address())).status, 200);
    let line = gateway.process.wait_for_line("backend_drain");
    assert!(line.contains("somebody on this machine at 127.0.0.1:"), "{line}");
    assert!(line.contains(&collector.address().to_string()) && line.contains("gets nothing more"), "{line}");
    gateway.process.wait_for_line("is not one of error");
    assert_eq!(ask(gateway.admin, "POST", "/reload", &[("origin", "null")], "").status, 403);
    gateway.process.wait_for_line("somebody was not let in");
    let text = ask(gateway.prometheus, "GET", "/metrics", &[], "").body;
    for line in [
        "switchyard_admin_verbs_total{verb=\"log_level\",result=\"done\"} 1",
        "switchyard_admin_verbs_total{verb=\"backend_drain\",result=\"done\"} 1",
        "switchyard_admin_verbs_total{verb=\"reload\",result=\"refused\"} 1",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn told_to_reload_it_answers_what_changed_or_everything_that_is_wrong() {
    let (scratch, _collector, gateway) = process("verbs-reload");
    let file = scratch.path().join("switchyard.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    let none = post(gateway.admin, "/reload");
    assert_eq!((none.status, none.body.as_str()), (200, "reloaded; no setting has changed\n"));
    std::fs::write(&file, format!("{before}\nreply: delivered\n")).unwrap();
    let changed = post(gateway.admin, "/reload");
    assert_eq!((changed.status, changed.body.as_str()), (200, "reloaded:\n  + reply: delivered\n"));
    std::fs::write(&file, format!("{before}\nreply: delivred\nworkres: 2\n")).unwrap();
    let wrong = post(gateway.admin, "/reload");
    assert_eq!(wrong.status, 400, "{wrong:?}");
    assert!(
        wrong.body.contains("did you mean `delivered`?") && wrong.body.contains("did you mean `workers`?"),
        "{wrong:?}"
    );
    assert!(wrong.body.ends_with("not reloaded: the gateway runs on as before\n"), "{wrong:?}");
    assert_eq!(gateway.metric("switchyard_config_last_reload_successful"), 0.0);
    // The token is asked for from the reload on that sets it, and the port that answers may be the one that moves.
    let moved = gateway.admin.to_string().replace("127.0.0.1", "127.0.0.2");
    let token = format!("admin: {{ token: {TOKEN} }}");
    std::fs::write(&file, format!("{}\n{token}\n", before.replace(&gateway.admin.to_string(), &moved))).unwrap();
    let last = post(gateway.admin, "/reload");
    assert!(last.status == 200 && last.body.contains("+ admin.token: (a secret)"), "{last:?}");
    let moved: SocketAddr = moved.parse().unwrap();
    eventually("the port has moved", Duration::from_secs(5), || std::net::TcpStream::connect(moved).is_ok());
    assert_eq!(post(moved, "/reload").status, 401);
    assert_eq!(ask(moved, "POST", "/reload", &[("authorization", &format!("Bearer {TOKEN}"))], "").status, 200);
}

#[test]
fn told_to_drain_a_gateway_delivers_what_it_holds_answers_and_ends() {
    let (_scratch, collector, mut gateway) = process("verbs-drain");
    let load = Load { to: gateway.agents.to_string(), rate: 200.0, ..Load::default() };
    let running = load.start().unwrap();
    eventually("messages arrive", Duration::from_secs(10), || collector.counts().messages > 100);
    let answer = post(gateway.admin, "/drain");
    assert_eq!(answer.status, 202, "{answer:?}");
    let status = gateway.process.wait(Duration::from_secs(10));
    running.stop();
    assert_eq!(status.code(), Some(0), "{:#?}", gateway.process.said());
    let last = gateway.process.wait_for_line("received ");
    assert!(last.contains("held 0 + lost 0"), "{last}");
}
