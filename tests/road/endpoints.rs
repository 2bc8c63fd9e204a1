//! Who connects directly is told where, in the gateway's own order, and of every change.

use std::net::SocketAddr;
use std::time::Duration;

use switchyard::admin::Token;
use switchyard::pool::Policy;

use crate::backend::Backend;
use crate::caller::Caller;
use crate::ground::{Road, eventually};
use crate::http::{Answer, Events, ask, names};
use crate::records::batches::{SPANS, batch, place_of};

const TOKEN: &str = "0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(10);

fn get(to: SocketAddr, path: &str) -> Answer {
    ask(to, "GET", path, &[], "")
}

/// A gateway with its endpoints port open on loopback.
fn road(collectors: usize) -> Road {
    Road::to_collectors_with(collectors, |plan| plan.endpoints = Some("127.0.0.1:0".parse().unwrap()))
}

#[test]
fn healthy_backends_are_told_with_what_is_known_of_them() {
    let road = road(3);
    let answer = get(road.endpoints(), "/v1/endpoints?pool=default");
    assert!(answer.header("cache-control").is_some_and(|value| value.contains("no-cache")), "{answer:?}");
    let all = answer.endpoints();
    assert_eq!((all.pool.as_str(), all.total, all.backends.len()), ("default", 3, 3));
    for collector in &road.collectors {
        let address = collector.address().to_string();
        let told = all.backends.iter().find(|backend| backend.name == address).expect("every backend is told");
        assert_eq!((told.endpoint.as_str(), told.weight, told.priority, told.state.as_str()), (&*address, 1, 0, "up"));
    }
    assert_eq!(get(road.endpoints(), "/v1/endpoints?count=2").endpoints().backends.len(), 2);
    let nowhere = get(road.endpoints(), "/v1/endpoints?pool=nowhere");
    assert!(nowhere.status == 404 && nowhere.body.contains("there is default"), "{nowhere:?}");
    assert_eq!(get(road.endpoints(), "/v1/endpoints?count=0").status, 400);
    assert_eq!(ask(road.endpoints(), "POST", "/v1/endpoints", &[], "").status, 405);
    road.end();
}

#[test]
fn the_first_for_a_key_is_where_the_gateway_sends_it() {
    let backends = [Backend::good(), Backend::good(), Backend::good()];
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let road = Road::through(Vec::new(), &addresses, |plan| {
        plan.pools[0].balance = Policy::Hash;
        plan.endpoints = Some("127.0.0.1:0".parse().unwrap());
    });
    let sent = road
        .block_on(async { Caller::connect(road.agents()).await.call(SPANS, &[], &[batch("shop", 0..20, 1)]).await });
    assert_eq!(sent.messages().len(), 1, "{sent:?}");
    let mut compared = 0;
    for (at, backend) in backends.iter().enumerate() {
        for (_, place) in
            backend.seen().iter().flat_map(|seen| &seen.messages).flat_map(|message| place_of(message, at))
        {
            let key: String = place.trace.iter().map(|byte| format!("%{byte:02x}")).collect();
            let order = get(road.endpoints(), &format!("/v1/endpoints?key={key}")).endpoints();
            assert_eq!(order.backends[0].name, addresses[at].to_string(), "trace {key}");
            compared += 1;
        }
    }
    assert_eq!(compared, 20);
    road.end();
}

#[test]
fn an_answer_that_has_not_changed_is_not_sent_again() {
    let road = road(3);
    let path = "/v1/endpoints?key=shop";
    let first = get(road.endpoints(), path);
    let tag = first.header("etag").expect("every answer has a tag").to_owned();
    let again = |path: &str| ask(road.endpoints(), "GET", path, &[("if-none-match", &format!("\"x\", {tag}"))], "");
    assert_eq!((again(path).status, again(path).body.as_str()), (304, ""));
    assert_eq!(again("/v1/endpoints?key=shop&count=1").status, 200, "another question has another answer");
    let drained = first.endpoints().backends[0].name.clone();
    assert_eq!(ask(road.admin(), "POST", &format!("/backends/{drained}/drain"), &[], "").status, 200);
    let changed = again(path).endpoints();
    assert_eq!(names(&changed), names(&first.endpoints())[1..], "the next in order is the first now");
    road.end();
}

#[test]
fn a_watcher_sees_a_backend_die_and_come_back() {
    let mut road = road(3);
    let path = "/v1/endpoints/watch?key=shop";
    let events = Events::of(road.endpoints(), path);
    eventually("an event comes at once", PATIENCE, || events.told().len() == 1);
    let order = events.last();
    assert_eq!(order, names(&get(road.endpoints(), "/v1/endpoints?key=shop").endpoints()));
    let place = road.collectors.iter().position(|collector| collector.address().to_string() == order[0]).unwrap();
    // Something has to be sent for a death to be noticed.
    let running = road.load().start().unwrap();
    eventually("it is known", PATIENCE, || road.collectors[place].counts().connections > 0);
    road.collectors[place].kill();
    eventually("its death is told", PATIENCE, || events.last() == order[1..]);
    road.collectors[place].restart().unwrap();
    eventually("its return is told", PATIENCE, || events.last() == order);
    running.stop();
    let epochs: Vec<u64> = events.told().iter().map(|told| told.epoch).collect();
    assert!(epochs.is_sorted(), "{epochs:?}");
    // The same by the header that browsers send, and of one who is drained.
    let by_header = Events::of(road.endpoints(), "/v1/endpoints");
    eventually("an event comes at once", PATIENCE, || by_header.last().len() == 3);
    assert_eq!(ask(road.admin(), "POST", &format!("/backends/{}/drain", order[0]), &[], "").status, 200);
    eventually("a drain is told", PATIENCE, || by_header.last().len() == 2 && events.last() == order[1..]);
    assert!(!events.have_ended() && !by_header.have_ended());
    road.end_with_losses();
    eventually("a drain of the gateway ends them", PATIENCE, || events.have_ended() && by_header.have_ended());
}

#[test]
fn so_many_may_watch_and_others_are_told_to_come_back() {
    let road = road(1);
    let watchers: Vec<Events> = (0..192).map(|_| Events::of(road.endpoints(), "/v1/endpoints/watch")).collect();
    eventually("all watch", PATIENCE, || watchers.iter().all(|watcher| watcher.told().len() == 1));
    let refused = get(road.endpoints(), "/v1/endpoints/watch");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{refused:?}");
    assert_eq!(get(road.endpoints(), "/v1/endpoints").status, 200, "there is always room to ask");
    road.end();
}

#[test]
fn a_reload_opens_the_port_changes_its_token_and_tells_watchers() {
    let mut road = road(2);
    let events = Events::of(road.endpoints(), "/v1/endpoints/watch");
    eventually("an event comes at once", PATIENCE, || events.last().len() == 2);
    road.reload(|plan| plan.pools[0].backends.truncate(1));
    eventually("who is gone is told", PATIENCE, || events.last().len() == 1);
    let by_name = Events::of(road.endpoints(), "/v1/endpoints/watch?pool=default");
    eventually("an event comes at once", PATIENCE, || by_name.last().len() == 1);
    road.reload(|plan| plan.pools[0].name = "other".to_owned());
    let is_followed = || events.told().last().is_some_and(|told| told.pool == "other");
    eventually("a pool that is gone is watched no more", PATIENCE, || by_name.have_ended() && is_followed());
    road.reload(|plan| plan.endpoints_token = Token::new(TOKEN));
    assert_eq!(get(road.endpoints(), "/v1/endpoints").status, 401);
    eventually("who came without the token is let go", PATIENCE, || events.have_ended());
    let port = road.endpoints();
    road.reload(|plan| plan.endpoints = None);
    eventually("the port is closed", PATIENCE, || std::net::TcpStream::connect(port).is_err());
    road.end();
}

/// What a careless server would take for one of the paths.
const PATHS: [&str; 12] = [
    "/v1/endpoints",
    "/v1/endpoints/watch",
    "//v1/endpoints",
    "/v1//endpoints",
    "/v1/endpoints/",
    "/v1/endpoints/watch/",
    "/v1/%65ndpoints",
    "/v1%2fendpoints",
    "/V1/Endpoints",
    "/./v1/endpoints",
    "/metrics",
    "/",
];

#[test]
fn nobody_without_the_right_token_reads_anything_whatever_the_path() {
    for bound in ["127.0.0.1:0", "0.0.0.0:0"] {
        let road = Road::to_collectors_with(1, |plan| {
            plan.endpoints = Some(bound.parse().unwrap());
            plan.endpoints_token = Token::new(TOKEN);
            // The token of one port opens no other.
            plan.admin_token = Token::new("fedcba9876543210");
        });
        let name = road.collectors[0].address().to_string();
        let with = |path: &str, value: &str| ask(road.endpoints(), "GET", path, &[("authorization", value)], "");
        for path in PATHS {
            for method in ["GET", "HEAD", "POST", "OPTIONS"] {
                let none = ask(road.endpoints(), method, path, &[], "");
                assert_eq!(none.status, 401, "{method} {path}: {none:?}");
                assert!(!none.body.contains(&name));
            }
        }
        assert_eq!(with("/v1/endpoints", "Bearer fedcba9876543210").status, 401);
        assert_eq!(with("/v1/endpoints", &format!("Bearer {TOKEN}")).endpoints().total, 1);
        for path in &PATHS[2..] {
            assert_eq!(with(path, &format!("Bearer {TOKEN}")).status, 404, "{path}");
        }
        let in_url = get(road.endpoints(), &format!("/v1/endpoints?token={TOKEN}"));
        assert!(in_url.status == 400 && !in_url.body.contains(TOKEN), "{in_url:?}");
        road.end();
    }
    let unset = Road::to_collectors_with(1, |plan| plan.endpoints = Some("0.0.0.0:0".parse().unwrap()));
    assert_eq!(get(unset.endpoints(), "/v1/endpoints").status, 403, "others can reach the port and there is no token");
    unset.end();
}
