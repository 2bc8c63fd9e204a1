//! Processes of a run: started, measured through /proc, stopped by their own pid.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

/// A child that does not outlive this value.
pub struct Process {
    child: Child,
    /// Held open, so that the child may go on talking.
    stdout: Option<BufReader<ChildStdout>>,
}

/// What a process and its children have used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all threads, dead ones included.
    pub cpu_us: f64,
    /// Context switches of living threads, asked for and forced.
    pub switches: u64,
    /// Resident memory now and at its highest. What processes share counts in each.
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
}

/// A tick of utime and stime in /proc: Linux has shown them in hundredths of a second on every platform since 2.6.
const TICK_US: f64 = 10_000.0;
/// How long a process may take to go after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);

// === impl Process ===

impl Process {
    /// Starts it; where stdin is to be closed or stdout read, `command` says so.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn().map_err(|error| {
            let program = command.get_program().display();
            io::Error::new(error.kind(), format!("{program}: {error}"))
        })?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self { child, stdout })
    }

    /// One line of JSON from its stdout. Waits for it.
    pub fn line<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let stdout = self.stdout.as_mut().ok_or_else(|| io::Error::other("stdout is not piped"))?;
        let mut line = String::new();
        if stdout.read_line(&mut line)? == 0 {
            return Err(io::Error::other("a process ended without an answer"));
        }
        serde_json::from_str(&line).map_err(|error| io::Error::other(format!("{error} in {line}")))
    }

    /// Says a line to its stdin and answers the line of JSON that comes back.
    pub fn ask<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let stdin = self.child.stdin.as_mut().ok_or_else(|| io::Error::other("stdin is not piped"))?;
        stdin.write_all(b"\n")?;
        self.line()
    }

    /// Everything it prints on stdout until it ends, for at most `deadline`.
    pub fn output(mut self, deadline: Duration) -> io::Result<String> {
        let mut stdout = self.stdout.take().ok_or_else(|| io::Error::other("stdout is not piped"))?;
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        if !self.wait(deadline)? {
            return Err(io::Error::other(format!("a process did not end within {deadline:?}")));
        }
        reader.join().map_err(|_| io::Error::other("the reader of stdout panicked"))?
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it and its children (workers of a master) have used; an error once it is gone.
    pub fn usage(&self) -> io::Result<Usage> {
        let pid = self.child.id();
        let mut usage = usage_of(pid)?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let of_child = usage_of(child)?;
            usage.cpu_us += of_child.cpu_us;
            usage.switches += of_child.switches;
            usage.rss_bytes += of_child.rss_bytes;
            usage.rss_peak_bytes += of_child.rss_peak_bytes;
        }
        Ok(usage)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// SIGTERM and, when that does not help, SIGKILL.
    pub fn stop(&mut self) -> io::Result<()> {
        if self.is_alive() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        if self.wait(GRACE)? { Ok(()) } else { self.kill() }
    }

    fn wait(&mut self, deadline: Duration) -> io::Result<bool> {
        let until = Instant::now() + deadline;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(true)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_alive() {
            // SIGTERM first: a master that gets SIGKILL leaves its workers behind. Errors mean that it has just gone.
            let _ = self.stop();
        }
    }
}

/// A command of which nobody reads stdin or stdout.
pub fn quiet(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn usage_of(pid: u32) -> io::Result<Usage> {
    let proc = format!("/proc/{pid}");
    let stat = fs::read_to_string(format!("{proc}/stat"))?;
    // The name may have blanks: fields are counted from the bracket that closes it. utime is 14, stime 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    let status = fs::read_to_string(format!("{proc}/status"))?;
    let mut switches = 0;
    for thread in fs::read_dir(format!("{proc}/task"))? {
        // A thread may end between the two reads.
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        switches += number(&status, "voluntary_ctxt_switches:") + number(&status, "nonvoluntary_ctxt_switches:");
    }
    Ok(Usage {
        cpu_us: (ticks(14) + ticks(15)) * TICK_US,
        switches,
        rss_bytes: number(&status, "VmRSS:") << 10,
        rss_peak_bytes: number(&status, "VmHWM:") << 10,
    })
}

/// The number on the line that begins with `key`.
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Time all processors of the machine have been busy, in microseconds.
pub fn machine_busy_us() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.take(8).map(|text| text.parse().unwrap_or_default()).collect();
    // user nice system idle iowait irq softirq steal
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok((ticks.iter().sum::<f64>() - idle) * TICK_US)
}
