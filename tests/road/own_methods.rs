//! Methods that only the operator knows: the examples of docs/methods.md, run as they stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use switchyard::config::{self, Overrides, Plan};
use switchyard::message::field;
use switchyard::wire::grpc::Code;

use crate::backend::{Backend, End};
use crate::caller::{Caller, framed};
use crate::contracts::say;
use crate::ground::{Road, eventually, lost};
use crate::process::Scratch;

const DOCS: &str = include_str!("../../docs/methods.md");
const PUSH: &str = "/shop.v1.Telemetry/Push";

/// The blocks of the page that are written in this language.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = DOCS.lines();
    while lines.any(|line| line == format!("```{language}")) {
        blocks.push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
    }
    blocks
}

/// A folder with the page's proto file and the descriptor set made of it.
fn folder(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let file = |name: &str| scratch.path().join(name);
    std::fs::write(file("shop.proto"), &blocks("proto")[0]).unwrap();
    let set = protox::compile([file("shop.proto")], [scratch.path()]).unwrap();
    std::fs::write(file("shop.binpb"), prost::Message::encode_to_vec(&set)).unwrap();
    scratch
}

/// The plan of an example, as the page would have it read: its descriptor set lies beside it.
fn plan_of(name: &str, example: &str, to: Option<&str>) -> Plan {
    let scratch = folder(name);
    let overrides = Overrides { to: to.map(str::to_owned), ..Overrides::default() };
    let source = scratch.path().join("switchyard.yaml").display().to_string();
    let (plan, warnings) = config::load(example, &source, &overrides).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    });
    assert!(warnings.is_empty(), "{warnings:?}");
    plan
}

fn before(plan: &Plan, backends: &[&Backend]) -> Road {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    Road::through(Vec::new(), &addresses, |road| {
        road.routes = std::sync::Arc::clone(&plan.routes);
        road.pools = plan.pools.clone();
    })
}

fn till(name: &str, town: &str) -> Bytes {
    say(&[(1, name.as_bytes()), (2, town.as_bytes())])
}

/// A sample; `kind` 1 is a return.
fn sample(till: Option<&Bytes>, article: &str, kind: u8) -> Bytes {
    let mut body = BytesMut::new();
    if let Some(till) = till {
        field::put_bytes(&mut body, 1, till);
    }
    field::put_bytes(&mut body, 2, article.as_bytes());
    if kind > 0 {
        body.extend_from_slice(&[4 << 3, kind]);
    }
    body.freeze()
}

/// What the receiver that the page speaks of files each article under: the till it read last.
fn filed(backend: &Backend) -> BTreeMap<String, String> {
    let mut filed = BTreeMap::new();
    for call in backend.seen() {
        let mut till = String::new();
        for message in &call.messages {
            let text = |path: &[u32]| {
                field::bytes_at(message, path).unwrap().map(|text| String::from_utf8(text.to_vec()).unwrap())
            };
            till = text(&[1, 1]).unwrap_or(till);
            assert_eq!(filed.insert(text(&[2]).unwrap(), till.clone()), None, "said once");
        }
    }
    filed
}

/// Streams of these tills, which say who they are once and take turns; answers the article of each.
fn push(road: &Road, tills: &[(&str, &str)], turns: usize) -> BTreeMap<String, String> {
    let mut sent = BTreeMap::new();
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut calls = Vec::new();
        for _ in tills {
            calls.push(caller.open(PUSH).await);
        }
        for turn in 0..turns {
            for (call, (name, town)) in calls.iter_mut().zip(tills) {
                let (said, article) = (till(name, town), format!("{name}/{turn}"));
                // Every tenth is a return.
                let kind = u8::from(turn % 10 == 9);
                call.send(framed(&sample((turn == 0).then_some(&said), &article, kind))).await;
                sent.insert(article, (*name).to_owned());
            }
        }
        for mut call in calls {
            call.half_close();
            assert_eq!(call.answer().await.code(), Code::Ok);
        }
    });
    road.wait_until_delivered(Duration::from_secs(5));
    sent
}

fn three() -> [Backend; 3] {
    [Backend::good(), Backend::good(), Backend::good()]
}

fn addresses(backends: &[Backend]) -> String {
    backends.iter().map(|backend| backend.address.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn a_method_of_which_nothing_is_said_is_kept_whole() {
    let backends = three();
    let plan = plan_of("own-whole", &blocks("yaml")[0], Some(&addresses(&backends)));
    let road = before(&plan, &backends.each_ref());
    push(&road, &[("till-1", "Oslo"), ("till-2", "Rome"), ("till-3", "Oslo")], 30);
    let calls: Vec<usize> = backends.iter().flat_map(Backend::seen).map(|call| call.messages.len()).collect();
    assert_eq!(calls, [30, 30, 30], "a call each, and all of it");
    road.end();
}

#[test]
fn a_method_that_carries_is_spread_and_every_message_keeps_its_till() {
    let backends = three();
    let plan = plan_of("own-carry", &blocks("yaml")[1], Some(&addresses(&backends)));
    let road = before(&plan, &backends.each_ref());
    let sent = push(&road, &[("till-1", "Oslo"), ("till-2", "Rome")], 600);
    let found: Vec<_> = backends.iter().map(filed).collect();
    assert!(found.iter().all(|filed| filed.len() > 200), "{:?}", found.iter().map(BTreeMap::len).collect::<Vec<_>>());
    assert_eq!(found.into_iter().flatten().collect::<BTreeMap<_, _>>(), sent);
    road.end();
}

#[test]
fn rules_see_what_a_stream_said_once() {
    let (oap, audit) = (Backend::good(), Backend::good());
    let example = blocks("yaml")[2]
        .replace("oap-0:11800, oap-1:11800", &oap.address.to_string())
        .replace("audit-0:9000", &audit.address.to_string());
    let plan = plan_of("own-rules", &example, None);
    let road = before(&plan, &[&oap]);
    let sent = push(&road, &[("till-1", "Oslo"), ("till-2", "Rome"), ("test-1", "Oslo")], 50);
    let is_return = |article: &str| article.ends_with('9');
    let of_shop = |wanted: bool| {
        let shop = sent.iter().filter(|(_, till)| !till.starts_with("test"));
        shop.filter(|(article, _)| is_return(article) == wanted)
            .map(|(article, till)| (article.clone(), till.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!((filed(&oap), filed(&audit)), (of_shop(false), of_shop(true)));
    assert_eq!(lost(&road.end_with_losses()), [("dropped", 50)]);
}

#[test]
fn what_must_not_be_said_twice_is_lost_rather_than_said_again() {
    let example = format!("methods: [ {{ path: {PUSH}, split: each, replay: not_processed }} ]");
    // It takes everything and then breaks the stream.
    let breaking = Backend::start(|mut call| async move {
        if call.read().await == End::HalfClosed {
            call.reset(h2::Reason::INTERNAL_ERROR);
        }
    });
    let plan = plan_of("own-once", &example, Some(&breaking.address.to_string()));
    let road = before(&plan, &[&breaking]);
    road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(PUSH).await;
        for number in 0..20 {
            call.send(framed(&sample(None, &number.to_string(), 0))).await;
        }
        call.half_close();
        assert_eq!(call.answer().await.code(), Code::Ok);
    });
    eventually("its outcome is known", Duration::from_secs(5), || road.snapshot().held == 0);
    let articles: Vec<Bytes> = breaking.seen().into_iter().flat_map(|call| call.messages).collect();
    assert_eq!(articles.len(), articles.iter().collect::<BTreeSet<_>>().len(), "nothing is said twice");
    let summary = road.end_with_losses();
    assert_eq!((lost(&summary), summary.totals.possible_duplicates), (vec![("in_doubt", 20)], 0));
}

#[test]
fn the_explanation_on_the_page_is_what_explain_says() {
    let scratch = folder("own-explain");
    std::fs::write(scratch.path().join("switchyard.yaml"), &blocks("yaml")[2]).unwrap();
    let page = &blocks("text")[0];
    let (command, expected) = page.split_once('\n').unwrap();
    let words = command.strip_prefix("$ switchyard ").unwrap().split(' ');
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_switchyard"))
        .args(words)
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), expected, "{}", String::from_utf8_lossy(&told.stderr));
}
