//! Events of one uuid are records of one id, of which the last may win: they arrive in order, at one collector.

use std::collections::BTreeMap;
use std::time::Duration;

use switchyard::testkit::collector::Collector;

use crate::draw::{Case, Draw, seeds};
use crate::reading::{Stream, read};
use crate::stage::{Audience, play};
use crate::traffic::{Call, Ending, Said, Traffic};
use crate::ways::{Setting, road};
use crate::wire::Draft;

const EVENTS: &str = "/skywalking.v3.EventService/collect";
const CALLS: usize = 8;
const EVENTS_OF_A_CALL: usize = 60;
const UUIDS_OF_A_CALL: usize = 5;

fn event(uuid: &str, number: usize, draw: &mut Draw) -> Said {
    let mut event = Draft::default();
    event.text(1, uuid).texts(&[(&[2, 1], "shop")]).text(3, &format!("event {number}")).text(9, "GENERAL");
    Said::of(event.encode_freely(draw))
}

/// Calls that each say something of a few uuids, again and again.
fn several_of_each(draw: &mut Draw) -> Traffic {
    let calls = (0..CALLS).map(|connection| {
        let uuids: Vec<String> = (0..UUIDS_OF_A_CALL).map(|_| draw.tag("uuid")).collect();
        let messages = (0..EVENTS_OF_A_CALL).map(|number| event(&draw.one_of(&uuids), number, draw)).collect();
        Call { connection: connection % 3, path: EVENTS.to_owned(), gzip: false, messages, ending: Ending::HalfClose }
    });
    Traffic::in_any_order(calls.collect(), draw)
}

/// What an event is filed as; it begins with its uuid.
fn filed_as(said: &Said) -> String {
    let alone = read(&[Stream::whole(EVENTS, vec![said.body.clone()])]);
    alone.into_keys().next().expect("an event is an item").item
}

fn uuid(item: &str) -> &str {
    item.split('#').next().expect("a split has a first part")
}

#[test]
fn events_of_one_uuid_arrive_in_order_at_one_collector() {
    let name = "events_of_one_uuid";
    for seed in seeds(name) {
        let case = Case { name, seed };
        let mut draw = case.draw();
        let traffic = several_of_each(&mut draw);
        let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for item in traffic.calls.iter().flat_map(|call| &call.messages).map(filed_as) {
            sent.entry(uuid(&item).to_owned()).or_default().push(item);
        }
        let mut road = road(Setting::draw(&mut draw));
        road.block_on(play(&traffic, road.agents(), Audience::new(&[]), |_| {}));
        road.wait_until_delivered(Duration::from_secs(10));
        let collectors = std::mem::take(&mut road.collectors);
        road.end();
        let mut arrived: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
        for (at, filed) in collectors.iter().map(Collector::filed).enumerate() {
            for item in filed {
                arrived.entry((at, uuid(&item.item).to_owned())).or_default().push(item.item);
            }
        }
        assert_eq!(arrived.len(), sent.len(), "every uuid met one collector");
        for ((at, uuid), items) in arrived {
            assert_eq!(items, sent[&uuid], "{uuid} at collector {at}");
        }
    }
}
