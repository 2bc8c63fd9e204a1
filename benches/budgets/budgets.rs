//! How many instructions the parts of the data path may take, counted by callgrind and held against limits.
//!
//! ```sh
//! cargo run --release --features budgets --bin budgets
//! ```
//!
//! It runs itself under valgrind, once: every part is passed once, and callgrind writes down what that took. Counts do
//! not depend on how busy a machine is; they depend a little on which `memcpy` a processor gets from the C library.

#[path = "../material/backends.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod backends;
#[path = "../material/measured.rs"]
mod measured;
#[path = "../material/messages.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod messages;
#[path = "../material/peers.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod peers;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use measured::{Part, TIED};
use messages::MESSAGES;

/// What the program is told when it runs under valgrind.
const MEASURE: &str = "--measure";

/// Under a limit by more than this many hundredths, the limit guards nothing any more.
const SLACK_MAX: u64 = 15;

/// Name, part, and the instructions it may take for [`MESSAGES`] messages.
type Limited = (&'static str, fn() -> Part, u64);

/// Limits are 7 to 11 % above what was counted when they were set, 15 % where a real socket has a say. To raise one is a
/// decision: the commit says what the instructions buy.
#[rustfmt::skip]
const LIMITS: [Limited; 21] = [
    ("frames of 200 B",                      || measured::frames(200),                       1_500),
    ("frames of 1 KiB",                      || measured::frames(1024),                      5_400),
    ("field scan of 1 KiB",                  measured::scan,                                 26_000),
    ("key of a segment",                     || measured::key("segment"),                    15_500),
    ("key of meters",                        || measured::key("meters"),                     38_500),
    ("sorter: segments",                     || measured::sort("segments"),                  470),
    ("sorter: logs that say their service",  || measured::sort("logs that say their service"), 28_000),
    ("sorter: logs that leave it out",       || measured::sort("logs that leave it out"),    35_000),
    ("sorter: access logs",                  || measured::sort("access logs"),               11_500),
    ("sorter: meters by key",                || measured::sort("meters"),                    49_500),
    ("choice by load, of 3",                 || measured::choose(None, 3),                   19_500),
    ("choice by key, of 3",                  || measured::choose(TIED, 3),                   8_900),
    ("permit taken, split, given back",      measured::permit,                               9_900),
    ("ticket issued and settled",            measured::ticket,                               8_900),
    ("ledger: parcels entered and settled",  measured::settle,                               24_000),
    ("parcels to a backend and its answer",  measured::trip,                                 170_000),
    ("parcel of 64 keys to three backends",  measured::deal,                                 145_000),
    ("HTTP/2 in: DATA of 200 B",             || measured::receive(200),                      18_500),
    ("HTTP/2 in: DATA of 1 KiB",             || measured::receive(1024),                     25_500),
    ("HTTP/2 out: chunks of 200 B",          || measured::send(200),                         29_500),
    ("HTTP/2 out: chunks of 1 KiB",          || measured::send(1024),                        37_500),
];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(MEASURE) {
        measure();
        return ExitCode::SUCCESS;
    }
    match count() {
        Ok(Some(counts)) => judge(&counts),
        Ok(None) => {
            println!("SKIPPED: budgets: there is no valgrind here (Debian: apt install valgrind)");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("budgets: FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Passes every part once, and before that as often as it takes until it owns what it needs.
fn measure() {
    switchyard::metrics::install();
    for (_, part, _) in LIMITS {
        let mut part = part();
        (0..3).for_each(|_| part());
        pass_through_part(&mut part);
    }
}

/// Callgrind is told to count in here and to write down the count at its end.
#[inline(never)]
fn pass_through_part(part: &mut Part) {
    part();
    std::hint::black_box(part);
}

/// The counts, in the order of [`LIMITS`]; `None` when there is no valgrind.
///
/// # Errors
/// When valgrind cannot be run, or does not write a count for every part.
fn count() -> Result<Option<Vec<u64>>, String> {
    let here = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let directory = here.with_extension("callgrind");
    let readable = |error| format!("{}: {error}", directory.display());
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(readable)?;
    let function = "budgets::pass_through_part";
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .args([format!("--toggle-collect={function}"), format!("--dump-after={function}")])
        .arg(format!("--callgrind-out-file={}/counts", directory.display()))
        .arg(&here)
        .arg(MEASURE)
        .output();
    let output = match ran {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("valgrind: {error}")),
        Ok(output) => output,
    };
    if !output.status.success() {
        return Err(format!("valgrind ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    (1..=LIMITS.len()).map(|part| total(&directory.join(format!("counts.{part}")))).collect::<Result<_, _>>().map(Some)
}

/// The instructions one of callgrind's files says.
fn total(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let said = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    said.and_then(|total| total.trim().parse().ok()).ok_or_else(|| format!("{} says no total", file.display()))
}

/// Prints what was counted, and what is over its limit.
fn judge(counts: &[u64]) -> ExitCode {
    println!("{:<40} {:>12} {:>12} {:>12} {:>6}", "part", "a message", MESSAGES, "limit", "of it");
    let mut verdict = ExitCode::SUCCESS;
    for ((name, _, limit), count) in LIMITS.iter().zip(counts) {
        let share = count * 100 / limit;
        println!("{name:<40} {:>12.1} {count:>12} {limit:>12} {share:>4} %", *count as f64 / MESSAGES as f64);
        // A part that was not passed counts nothing, and that is no success.
        if *count == 0 || count > limit {
            verdict = ExitCode::FAILURE;
            eprintln!(
                "budgets: FAILED: {name}: {count} instructions for {MESSAGES} messages, the limit is {limit}: {} over. \
                 If that is meant, raise the limit in benches/budgets/budgets.rs and say in the commit what it buys.",
                i128::from(*count) - i128::from(*limit),
            );
        } else if share + SLACK_MAX < 100 {
            println!("  far below its limit: lower it to about {} in benches/budgets/budgets.rs", count + count / 14);
        }
    }
    verdict
}
