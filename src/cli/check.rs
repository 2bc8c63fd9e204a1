//! `switchyard check FILE`: says whether a config would run, and everything that is wrong with it if not.

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::config::{self, Overrides, Problem};

/// What `check` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The config file
    #[arg(default_value = "switchyard.yaml")]
    pub file: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Flags that will win over the file
    #[command(flatten)]
    pub overrides: Overrides,
}

/// A file above this is no config. Ours have a few hundred bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

const SOUND: u8 = 0;
const UNSOUND: u8 = 1;
const UNREADABLE: u8 = 2;

/// Checks the file: 0 when it is sound, 1 when it is not, 2 when it cannot be read.
pub fn run(args: Args) -> ExitCode {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A reader that went away (`check | head`) is no reason to change the verdict.
    ExitCode::from(check(&args, colour, &mut io::stdout().lock(), &mut io::stderr().lock()).unwrap_or(UNREADABLE))
}

/// Summary and JSON go to `out`, problems to `err`, as compilers do.
fn check(args: &Args, colour: bool, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let name = args.file.display().to_string();
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(error) => {
            if args.json {
                writeln!(
                    out,
                    "{}",
                    json!({ "file": name, "sound": false, "unreadable": error.to_string(), "problems": [] })
                )?;
            } else {
                writeln!(err, "error: cannot read {name}: {error}")?;
            }
            return Ok(UNREADABLE);
        }
    };
    let (plan, problems) = match config::load(&text, &name, &args.overrides) {
        Ok((plan, warnings)) => (Some(plan), warnings),
        Err(problems) => (None, problems),
    };
    let summary = plan.map(|plan| plan.summary());
    if args.json {
        let report = json!({ "file": name, "sound": summary.is_some(), "summary": summary, "problems": problems });
        writeln!(out, "{report}")?;
    } else {
        for problem in &problems {
            writeln!(err, "{}", problem.render(colour))?;
        }
        match &summary {
            Some(summary) => writeln!(out, "{name} is sound: {summary}")?,
            None => writeln!(err, "{name} is not sound: {}", tally(&problems))?,
        }
    }
    Ok(if summary.is_some() { SOUND } else { UNSOUND })
}

fn read(file: &PathBuf) -> io::Result<String> {
    if fs::metadata(file)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB, which no config is"));
    }
    fs::read_to_string(file)
}

/// `2 errors, 1 warning`.
fn tally(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == config::Severity::Error).count();
    let said = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    match problems.len() - errors {
        0 => said(errors, "error"),
        warnings => format!("{}, {}", said(errors, "error"), said(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exit code, stdout and stderr of a check of this text.
    fn checked(test: &str, text: &str, json: bool) -> (u8, String, String) {
        let file = std::env::temp_dir().join(format!("switchyard-check-{}-{test}.yaml", std::process::id()));
        fs::write(&file, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = Args { file: file.clone(), json, overrides: Overrides::default() };
        let code = check(&args, false, &mut out, &mut err).unwrap();
        fs::remove_file(&file).unwrap();
        let shown = |bytes| String::from_utf8(bytes).unwrap().replace(&file.display().to_string(), "FILE");
        (code, shown(out), shown(err))
    }

    #[test]
    fn a_sound_file_exits_0_with_one_line() {
        let (code, out, err) = checked("sound", "to: a:1,b:1,c:1", false);
        let line = "FILE is sound: 3 listeners, 1 pool (3 backends), 256MiB of memory\n";
        assert_eq!((code, out.as_str(), err.as_str()), (0, line, ""));
    }

    #[test]
    fn a_warning_is_printed_and_the_file_still_sound() {
        let (code, out, err) = checked("warning", "to: a:1\npool: {balance: hash}", false);
        assert_eq!(code, 0);
        assert!(out.starts_with("FILE is sound: "), "{out}");
        assert!(err.starts_with("FILE:2:17: warning: pool.balance: "), "{err}");
    }

    #[test]
    fn an_unsound_file_exits_1_with_every_problem_and_a_tally() {
        let (code, out, err) = checked("unsound", "to: a\nworkers: x", false);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("FILE:1:5: error: to: ") && err.contains("FILE:2:10: error: workers: "), "{err}");
        assert!(err.ends_with("FILE is not sound: 2 errors\n"), "{err}");
    }

    #[test]
    fn json_holds_the_verdict_and_the_problems() {
        let (code, out, err) = checked("json", "to: a", true);
        let expected = json!({
            "file": "FILE", "sound": false, "summary": null,
            "problems": [{
                "severity": "error", "file": "FILE", "line": 1, "column": 5, "key": "to",
                "what": "\"a\" has no port", "mend": "write a:11800"
            }]
        });
        assert_eq!((code, serde_json::from_str(&out).unwrap(), err.as_str()), (1, expected, ""));
    }

    #[test]
    fn a_file_that_cannot_be_read_exits_2() {
        let args = Args { file: "no/such/file.yaml".into(), json: false, overrides: Overrides::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(check(&args, false, &mut out, &mut err).unwrap(), 2);
        assert!(String::from_utf8(err).unwrap().starts_with("error: cannot read no/such/file.yaml: "));
    }
}
