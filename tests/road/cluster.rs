//! A gateway process in front of pods: the Kubernetes API that tells of them is played here, byte by byte, on a real socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use switchyard::testkit::agents::Load;
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::check::check;
use switchyard::testkit::collector::Collector;

use crate::ground::{assert_once_each, collector, eventually};
use crate::process::{GatewayProcess, Process, Scratch, free_addresses};

const PATIENCE: Duration = Duration::from_secs(20);

/// How long after its leaving a backend may still get what was on its way; a process and a socket more than in the pool.
const LEAVING: Duration = Duration::from_millis(300);

/// An API whose list is what it was started with, and whose watches are handed to the test one by one.
struct Api {
    address: SocketAddr,
    watches: mpsc::Receiver<(String, TcpStream)>,
}

impl Api {
    fn start(list: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, watches) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (list, tell) = (list.to_string(), tell.clone());
                std::thread::spawn(move || serve(stream, &list, &tell));
            }
        });
        Self { address, watches }
    }

    /// The next watch, which has to go on from this version.
    fn watch(&self, version: u32) -> TcpStream {
        let (path, stream) = self.watches.recv_timeout(PATIENCE).expect("a watch comes");
        assert!(path.ends_with(&format!("&resourceVersion={version}")), "{path}");
        stream
    }
}

fn serve(mut stream: TcpStream, list: &str, tell: &mpsc::Sender<(String, TcpStream)>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    while let Some(first) = lines.next() {
        assert!(lines.by_ref().any(|line| line.is_empty()), "a request has a head");
        let path = first.split(' ').nth(1).unwrap().to_owned();
        if path.contains("watch=true") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
            let _ = tell.send((path, stream));
            return;
        }
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{list}", list.len()).unwrap();
    }
}

fn say(watch: &mut TcpStream, text: &str) {
    write!(watch, "{:x}\r\n{text}\r\n", text.len()).unwrap();
}

fn tell(watch: &mut TcpStream, kind: &str, pod: Value) {
    say(watch, &format!("{}\n", json!({ "type": kind, "object": pod })));
}

/// A pod on this machine: what tells it from the others is its port.
fn pod(name: &str, version: u32, of: &Collector) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": version.to_string() },
        "spec": { "containers": [{ "ports": [{ "name": "grpc", "containerPort": of.address().port() }] }] },
        "status": { "phase": "Running", "podIP": "127.0.0.1", "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

fn ending(name: &str, version: u32, of: &Collector) -> Value {
    let mut pod = pod(name, version, of);
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z".into();
    pod
}

#[test]
fn pods_come_and_end_under_load_and_nothing_is_lost_though_the_watch_breaks() {
    let collectors: Vec<Collector> = (0..3).map(|_| collector(Behaviour::default())).collect();
    let [a, b, c] = collectors.as_slice() else { unreachable!("there are three") };
    let api = Api::start(json!({ "metadata": { "resourceVersion": "7" }, "items": [pod("a", 1, a), pod("b", 2, b)] }));
    let scratch = Scratch::new("cluster");
    let [agents, prometheus, admin] = free_addresses();
    let text = format!(
        "listen: {{ agents: \"{agents}\", access_logs: off, metrics: off, prometheus: \"{prometheus}\", admin: \"{admin}\" }}\n\
         to: {{ kubernetes: {{ namespace: sky, selector: app=oap, port: grpc, api_server: \"http://{}\" }} }}\n",
        api.address
    );
    let file = scratch.path().join("switchyard.yaml");
    std::fs::write(&file, text).unwrap();
    let process = Process::switchyard(&["run", "-c", file.to_str().unwrap()]);
    let mut gateway = GatewayProcess { process, agents, prometheus, admin };
    eventually("it is ready", PATIENCE, || gateway.ready() == Some(200));
    let mut watch = api.watch(7);
    let messages = |of: &Collector| of.counts().messages;
    let running =
        Load { to: agents.to_string(), connections: 2, streams: 4, rate: 400.0, ..Load::default() }.start().unwrap();
    eventually("both get messages", PATIENCE, || messages(a) > 100 && messages(b) > 100);

    tell(&mut watch, "ADDED", pod("c", 8, c));
    eventually("the new one gets messages", PATIENCE, || messages(c) > 100);
    tell(&mut watch, "MODIFIED", ending("a", 9, a));
    eventually("one leaves", PATIENCE, || {
        gateway.snapshot().backends.iter().any(|backend| backend.name.starts_with("a:") && backend.state == "leaving")
    });
    std::thread::sleep(LEAVING);
    let left = messages(a);
    // Half a line, and the connection is gone.
    say(&mut watch, "{\"type\":\"DELE");
    drop(watch);
    let mut watch = api.watch(9);
    tell(&mut watch, "DELETED", ending("a", 10, a));
    eventually("it is gone", PATIENCE, || gateway.snapshot().backends.len() == 2);
    let before = messages(b) + messages(c);
    eventually("the others go on", PATIENCE, || messages(b) + messages(c) > before + 200);
    assert_eq!(messages(a), left, "one that leaves gets nothing more");

    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "agents notice nothing: {outcome:?}");
    gateway.assert_books_balance();
    gateway.end(PATIENCE);
    let evidence: Vec<_> = collectors.iter().map(Collector::evidence).collect();
    assert_once_each(&check(&outcome.agents, &evidence));
}
