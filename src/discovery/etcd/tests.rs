//! Keys followed in an etcd that is scripted on a real socket.

mod scripted;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::messages::*;
use super::*;
use crate::pool::found::Found;
use scripted::{Answer, Etcd, PATIENCE};

fn settings(members: &[&Etcd]) -> Settings {
    let members = members.iter().map(|member| member.endpoint.clone()).collect();
    Settings { members, prefix: "oap/".to_owned(), tls: None, user: None }
}

/// A follower, and what it tells.
struct Following {
    told: mpsc::UnboundedReceiver<Vec<Found>>,
    _task: JoinSet<()>,
}

impl Following {
    fn start(settings: Settings) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(follow(settings, Announcer::new("oap", move |all| drop(tell.send(all)))));
        Self { told, _task: task }
    }

    /// Names and addresses; a leaving one has a minus sign behind it.
    async fn told(&mut self) -> String {
        let told = timeout(PATIENCE, self.told.recv()).await.expect("something is told").unwrap();
        let shown =
            |found: &Found| format!("{}={}{}", found.name, found.endpoint, if found.is_leaving { "-" } else { "" });
        told.iter().map(shown).collect::<Vec<_>>().join(" ")
    }
}

fn kv((key, value): (&str, &str), mod_revision: i64) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), mod_revision }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision })
}

/// A page that may not be the last.
fn page(revision: i64, more: bool, keys: &[(&str, &str)]) -> RangeResponse {
    RangeResponse { header: header(revision), kvs: keys.iter().map(|key| kv(*key, 1)).collect(), more }
}

fn put(revision: i64, key: &str, value: &str) -> WatchResponse {
    let event = Event { r#type: EventType::Put.into(), kv: Some(kv((key, value), revision)) };
    // The store is ahead of what is told.
    WatchResponse { header: header(revision + 100), events: vec![event], ..WatchResponse::default() }
}

fn delete(revision: i64, key: &str) -> WatchResponse {
    let event = Event { r#type: EventType::Delete.into(), kv: Some(kv((key, ""), revision)) };
    WatchResponse { header: header(revision), events: vec![event], ..WatchResponse::default() }
}

/// Answers the read, and begins the watch after it.
async fn read(etcd: &mut Etcd, revision: i64, keys: &[(&str, &str)]) -> Answer {
    etcd.asked::<RangeRequest>("/etcdserverpb.KV/Range").await.1.says(&page(revision, false, keys));
    watched(etcd, revision + 1).await
}

async fn watched(etcd: &mut Etcd, from: i64) -> Answer {
    let (request, answer) = etcd.asked::<WatchRequest>("/etcdserverpb.Watch/Watch").await;
    let create = request.create_request.unwrap();
    assert_eq!(
        (create.start_revision, create.key.as_slice(), create.range_end.as_slice()),
        (from, &b"oap/"[..], &b"oap0"[..])
    );
    answer.sends(&WatchResponse { header: header(from + 100), created: true, ..WatchResponse::default() });
    answer
}

#[tokio::test]
async fn keys_are_read_page_by_page_at_one_revision_and_then_watched_from_there() {
    let mut etcd = Etcd::start().await;
    let mut following = Following::start(settings(&[&etcd]));
    let (request, answer) = etcd.asked::<RangeRequest>("/etcdserverpb.KV/Range").await;
    assert_eq!(
        (request.key.as_slice(), request.range_end.as_slice(), request.revision),
        (&b"oap/"[..], &b"oap0"[..], 0)
    );
    answer.says(&page(7, true, &[("oap/a", "10.0.0.1:1")]));
    let (request, answer) = etcd.asked::<RangeRequest>("/etcdserverpb.KV/Range").await;
    assert_eq!((request.key.as_slice(), request.revision), (&b"oap/a\0"[..], 7));
    answer.says(&page(9, false, &[("oap/b", r#"{"Op":0,"Addr":"10.0.0.2:1"}"#)]));
    let watch = watched(&mut etcd, 8).await;
    assert_eq!(following.told().await, "a=10.0.0.1:1 b=10.0.0.2:1");

    watch.sends(&put(8, "oap/c", "10.0.0.3:1"));
    assert_eq!(following.told().await, "a=10.0.0.1:1 b=10.0.0.2:1 c=10.0.0.3:1");
    watch.sends(&put(9, "oap/b", r#"{"endpoint":"10.0.0.2:1","leaving":true}"#));
    assert_eq!(following.told().await, "a=10.0.0.1:1 b=10.0.0.2:1- c=10.0.0.3:1");
    watch.sends(&delete(10, "oap/b"));
    assert_eq!(following.told().await, "a=10.0.0.1:1 c=10.0.0.3:1");
    // What cannot be read leaves what the key said before; one address is one backend whatever its keys.
    watch.sends(&put(11, "oap/a", "nowhere"));
    watch.sends(&put(12, "oap/d", "10.0.0.3:1"));
    watch.sends(&put(13, "oap/e", "10.0.0.5:1"));
    assert_eq!(following.told().await, "a=10.0.0.1:1 c=10.0.0.3:1 e=10.0.0.5:1");
    // The last key that goes stays as a backend until there is another.
    for (revision, key) in [(14, "oap/a"), (15, "oap/c"), (16, "oap/d")] {
        watch.sends(&delete(revision, key));
    }
    while following.told().await != "e=10.0.0.5:1" {}
    watch.sends(&delete(17, "oap/e"));
    watch.sends(&put(18, "oap/f", "10.0.0.6:1"));
    assert_eq!(following.told().await, "f=10.0.0.6:1");
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_at_another_member_after_the_last_event() {
    let (mut first, mut second) = (Etcd::start().await, Etcd::start().await);
    let mut following = Following::start(settings(&[&first, &second]));
    // Who is asked first is drawn.
    let asked = tokio::select! {
        asked = first.asked::<RangeRequest>("/etcdserverpb.KV/Range") => (asked.1, true),
        asked = second.asked::<RangeRequest>("/etcdserverpb.KV/Range") => (asked.1, false),
    };
    let (one, other) = if asked.1 { (&mut first, &mut second) } else { (&mut second, &mut first) };
    asked.0.says(&page(7, false, &[("oap/a", "10.0.0.1:1")]));
    let watch = watched(one, 8).await;
    watch.sends(&put(20, "oap/b", "10.0.0.2:1"));
    while following.told().await != "a=10.0.0.1:1 b=10.0.0.2:1" {}
    watch.breaks();
    let watch = watched(other, 21).await;
    // The member has lost its leader.
    watch.ends(14, "etcdserver: no leader");
    let watch = watched(one, 21).await;
    watch.sends(&delete(21, "oap/a"));
    assert_eq!(following.told().await, "b=10.0.0.2:1");
}

#[tokio::test]
async fn what_is_compacted_away_is_read_again() {
    let mut etcd = Etcd::start().await;
    let mut following = Following::start(settings(&[&etcd]));
    let watch = read(&mut etcd, 7, &[("oap/a", "10.0.0.1:1"), ("oap/b", "10.0.0.2:1")]).await;
    assert_eq!(following.told().await, "a=10.0.0.1:1 b=10.0.0.2:1");
    watch.sends(&WatchResponse { canceled: true, compact_revision: 50, ..WatchResponse::default() });
    let _watch = read(&mut etcd, 60, &[("oap/b", "10.0.0.2:1")]).await;
    assert_eq!(following.told().await, "b=10.0.0.2:1");
}

#[tokio::test]
async fn a_user_says_its_password_once_and_brings_its_token_from_then_on() {
    let mut etcd = Etcd::start().await;
    let user = User { name: "switchyard".to_owned(), password: Password("s3cret".to_owned()) };
    let settings = Settings { user: Some(user), ..settings(&[&etcd]) };
    assert!(!format!("{settings:?} {settings}").contains("s3cret"));
    let mut following = Following::start(settings);
    let path = "/etcdserverpb.Auth/Authenticate";
    let (request, answer) = etcd.asked::<AuthenticateRequest>(path).await;
    assert_eq!((request.name.as_str(), request.password.as_str()), ("switchyard", "s3cret"));
    answer.says(&AuthenticateResponse { token: "t0ken".to_owned() });
    let (_, answer) = etcd.asked::<RangeRequest>("/etcdserverpb.KV/Range").await;
    assert_eq!(answer.token.as_deref(), Some("t0ken"));
    // Tokens run out: the next attempt gets another.
    answer.ends(16, "etcdserver: invalid auth token");
    etcd.asked::<AuthenticateRequest>(path).await.1.says(&AuthenticateResponse { token: "other".to_owned() });
    let (_, answer) = etcd.asked::<RangeRequest>("/etcdserverpb.KV/Range").await;
    assert_eq!(answer.token.as_deref(), Some("other"));
    answer.ends(7, "etcdserver: permission denied");
    // An etcd that lets everybody in says so.
    etcd.asked::<AuthenticateRequest>(path).await.1.ends(9, "etcdserver: authentication is not enabled");
    let _watch = read(&mut etcd, 7, &[("oap/a", "10.0.0.1:1")]).await;
    assert_eq!(following.told().await, "a=10.0.0.1:1");
}
