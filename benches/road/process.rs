//! Processes of a run: started, measured through /proc, stopped by their own pid.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A child that does not outlive this value.
pub struct Process {
    child: Child,
    /// Held open, so that the child may go on talking.
    stderr: Option<BufReader<ChildStderr>>,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all its threads, dead ones included.
    pub cpu_us: f64,
    /// Context switches of its living threads, asked for and forced.
    pub switches: u64,
    /// Resident memory now and at its highest.
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
}

/// A tick of utime and stime in /proc: Linux has shown them in hundredths of a second on every platform since 2.6.
const TICK_US: f64 = 10_000.0;
/// How long a process may take to go after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);

// === impl Process ===

impl Process {
    /// Starts it; what it says goes to `log`, to [`Process::line_with`] or nowhere.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let stderr = child.stderr.take().map(BufReader::new);
        Ok(Self { child, stderr })
    }

    /// Reads stderr up to a line that has `words` and answers what follows them.
    pub fn line_with(&mut self, words: &str) -> io::Result<String> {
        let stderr = self.stderr.as_mut().ok_or_else(|| io::Error::other("stderr is not piped"))?;
        let mut line = String::new();
        while stderr.read_line(&mut line)? > 0 {
            if let Some((_, after)) = line.split_once(words) {
                return Ok(after.trim().to_owned());
            }
            line.clear();
        }
        Err(io::Error::other(format!("a process ended without saying `{words}`")))
    }

    /// Everything it prints on stdout until it ends, for at most `deadline`.
    pub fn output(mut self, deadline: Duration) -> io::Result<String> {
        let mut stdout = self.child.stdout.take().ok_or_else(|| io::Error::other("stdout is not piped"))?;
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

    /// What it has used; an error once it is gone.
    pub fn usage(&self) -> io::Result<Usage> {
        let proc = format!("/proc/{}", self.child.id());
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
            // An error means that it has just gone by itself.
            let _ = self.kill();
        }
    }
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
