//! Real processes of the `switchyard` program: started, read from, signalled, and never left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use switchyard::admin::snapshot::Snapshot;

/// The program under test.
const SWITCHYARD: &str = env!("CARGO_BIN_EXE_switchyard");

/// A process with its stderr kept; killed when dropped.
pub struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    /// Reads what it says until there is nothing more to come.
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `switchyard` with these words.
    pub fn switchyard(words: &[&str]) -> Self {
        Self::start(Command::new(SWITCHYARD).args(words))
    }

    /// Starts `switchyard` under a program that changes how it lives.
    pub fn switchyard_under(wrapper: &[&str], words: &[&str]) -> Self {
        Self::start(Command::new(wrapper[0]).args(&wrapper[1..]).arg(SWITCHYARD).args(words))
    }

    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&said), child.stderr.take().expect("piped above"));
        let reader = std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        Self { child, said, reader: Some(reader) }
    }

    /// Everything it said so far.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Waits for a line that has `part` in it.
    pub fn wait_for_line(&self, part: &str) -> String {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(line) = self.said().into_iter().find(|line| line.contains(part)) {
                return line;
            }
            assert!(Instant::now() < until, "it never said {part:?}, but {:#?}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "SIG{name} could not be sent");
    }

    /// Kills it as the kernel does, and waits for it to be gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                if let Some(reader) = self.reader.take() {
                    // Its last words may not have been read yet.
                    reader.join().expect("it only reads");
                }
                return status;
            }
            assert!(Instant::now() < until, "it still runs after {patience:?}: {:#?}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The most memory it ever had resident, in bytes.
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of kB") * 1024
    }

    /// Processor time it has used.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it runs");
        let behind_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
        let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A collector in a process of its own, with a log that survives it.
pub struct CollectorProcess {
    process: Process,
    pub address: SocketAddr,
    pub log: PathBuf,
}

impl CollectorProcess {
    pub fn start(directory: &Path, name: &str) -> Self {
        Self::start_under(&[], directory, name, "127.0.0.1:0")
    }

    /// Starts one under a program that changes where it lives.
    pub fn start_under(wrapper: &[&str], directory: &Path, name: &str, listen: &str) -> Self {
        let log = directory.join(name);
        let process = Self::process(wrapper, &log, listen);
        let line = process.wait_for_line("collector listening on ");
        let address = line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address at the end");
        Self { process, address, log }
    }

    fn process(wrapper: &[&str], log: &Path, listen: &str) -> Process {
        let log = log.to_str().expect("a path of ours");
        let words = ["collector", "--listen", listen, "--log", log];
        if wrapper.is_empty() { Process::switchyard(&words) } else { Process::switchyard_under(wrapper, &words) }
    }

    /// SIGTERM, and waits for its end: it says GOAWAY and answers what it has.
    pub fn stop(&mut self) {
        self.process.signal("TERM");
        self.process.wait(Duration::from_secs(10));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// The same again on the same port.
    pub fn restart(&mut self) {
        self.process = Self::process(&[], &self.log, &self.address.to_string());
        self.process.wait_for_line("collector listening on ");
    }
}

/// A gateway in a process of its own.
pub struct GatewayProcess {
    pub process: Process,
    pub agents: SocketAddr,
    pub prometheus: SocketAddr,
    pub admin: SocketAddr,
}

impl GatewayProcess {
    /// Starts one with this much more in its file; waits until it is ready.
    pub fn start(directory: &Path, to: &[SocketAddr], more: &str) -> Self {
        Self::start_under(&[], directory, to, more)
    }

    pub fn start_under(wrapper: &[&str], directory: &Path, to: &[SocketAddr], more: &str) -> Self {
        let [agents, prometheus, admin] = free_addresses();
        let to: Vec<String> = to.iter().map(|address| format!("\"{address}\"")).collect();
        let text = format!(
            "listen: {{ agents: \"{agents}\", access_logs: off, metrics: off, prometheus: \"{prometheus}\", admin: \"{admin}\" }}\n\
             to: [{}]\nworkers: 2\n{more}\n",
            to.join(", ")
        );
        let file = directory.join("switchyard.yaml");
        std::fs::write(&file, &text).expect("a file of ours");
        let words = ["run", "-c", file.to_str().expect("a path of ours")];
        let process = match wrapper {
            [] => Process::switchyard(&words),
            _ => Process::switchyard_under(wrapper, &words),
        };
        let gateway = Self { process, agents, prometheus, admin };
        let until = Instant::now() + Duration::from_secs(10);
        while gateway.ready() != Some(200) {
            assert!(Instant::now() < until, "it is never ready: {:#?}\n{text}", gateway.process.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        gateway
    }

    /// What /ready says, as an HTTP status.
    pub fn ready(&self) -> Option<u16> {
        get(self.admin, "/ready").map(|(status, _)| status)
    }

    pub fn snapshot(&self) -> Snapshot {
        let (_, body) = get(self.admin, "/snapshot").expect("the admin port answers");
        serde_json::from_str(&body).expect("a snapshot")
    }

    /// The sum over all labels of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = get(self.prometheus, "/metrics").expect("the prometheus port answers");
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The books as they are now, checked.
    pub fn assert_books_balance(&self) -> Snapshot {
        let now = self.snapshot();
        assert_eq!(self.metric("switchyard_conservation_violations"), 0.0, "{:#?}", self.process.said());
        assert_eq!(now.lost_total, 0, "{:?}", now.lost);
        now
    }

    /// SIGTERM; it must leave in time, with exit code 0 and honest books. Answers its last line.
    pub fn end(&mut self, patience: Duration) -> String {
        self.process.signal("TERM");
        let status = self.process.wait(patience);
        let said = self.process.said();
        let last = said.iter().rfind(|line| line.starts_with("received ")).cloned();
        let last = last.unwrap_or_else(|| panic!("no summary: {said:#?}"));
        let numbers: Vec<u64> = last.split([' ', ';']).filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers[0], numbers[1] + numbers[2] + numbers[3], "{last}");
        assert_eq!((numbers[2], numbers[3], status.code()), (0, 0, Some(0)), "{last}; {said:#?}");
        last
    }
}

/// A directory of this test's own.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("switchyard-road-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory is ours");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Addresses that were free a moment ago.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let bound = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("it is bound"))
}

/// An HTTP/1.1 GET; `None` when nobody answers.
pub fn get(from: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(from).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {from}\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
