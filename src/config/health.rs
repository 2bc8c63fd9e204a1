//! `pool.health`: how it is found out whether a backend is well, and what follows if it is not.

use std::time::Duration;

use super::keys;
use super::problem::{Findings, Mistake};
use super::section::Section;
use super::unit::show_time;
use crate::pool::Check;
use crate::pool::health::HealthSettings;

/// How often backends that are well are asked once `check` is written.
const INTERVAL: Duration = Duration::from_secs(5);

/// What OAP answers health checks under.
const PATH: &str = "/healthcheck";

/// Reads the group under a pool's section.
pub(super) fn read(pool: &Section<'_>, findings: &mut Findings<'_>) -> HealthSettings {
    let section = pool.section("health", findings);
    let usual = HealthSettings::default();
    let interval = section.has("check").then_some(INTERVAL);
    let settings = HealthSettings {
        check: check(&section, findings),
        interval: section.time_or_off("interval", interval, findings),
        timeout: section.time("timeout", usual.timeout, findings),
        rise: section.count("rise", usual.rise, findings),
        fall: section.count("fall", usual.fall, findings),
        ejection: section.time("ejection", usual.ejection, findings),
        ejection_max: section.time("ejection_max", usual.ejection_max, findings),
        eject_max: section.read("eject_max", findings, percent).unwrap_or(usual.eject_max),
        panic_below: section.read("panic_below", findings, percent).unwrap_or(usual.panic_below),
        slow_start: section.time("slow_start", usual.slow_start, findings),
    };
    let paths = [section.key("ejection"), section.key("ejection_max")];
    if settings.ejection > settings.ejection_max && findings.fine(&[&paths[0], &paths[1]]) {
        let written = usize::from(!section.has("ejection"));
        let [first, most] = [settings.ejection, settings.ejection_max].map(show_time);
        let mistake = Mistake::new(
            format!("the first ejection, {first}, is longer than the longest, {most}"),
            format!("set ejection to {most} or less, or raise ejection_max"),
        );
        findings.error_in(&paths[written], mistake);
    }
    settings
}

fn check(section: &Section<'_>, findings: &mut Findings<'_>) -> Check {
    let word = section.word("check", keys::CHECK, findings).map_or("connect", |at| keys::CHECK[at]);
    let is_known = findings.fine(&[&section.key("check")]);
    let service = section.read("service", findings, service);
    let path = section.read("path", findings, path);
    let port = section.has("port").then(|| section.amount("port", 0, findings));
    for (name, belongs_to) in [("service", "grpc"), ("path", "http"), ("port", "http")] {
        let key = section.key(name);
        if is_known && section.has(name) && word != belongs_to && findings.fine(&[&key]) {
            let what = format!("says nothing to `check: {word}`");
            findings.error_in(&key, Mistake::new(what, format!("write `check: {belongs_to}`, or remove it")));
        }
    }
    match word {
        "grpc" => Check::Grpc { service: service.unwrap_or_default() },
        "tcp" => Check::Tcp,
        "http" => {
            if port.is_none() {
                let what = "nothing is said of the port that answers HTTP; the backend's own speaks gRPC";
                let mend = "write `port: 12800`, or whichever answers; or `check: grpc`";
                findings.error_in(&section.key("check"), Mistake::new(what, mend));
            }
            let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            Check::Http { path: path.unwrap_or_else(|| PATH.to_owned()), port }
        }
        _ => Check::Connect,
    }
}

fn service(text: &str) -> Result<String, Mistake> {
    match text.starts_with('/') {
        true => Err(Mistake::new("is a path, not the name of a service", "write it as in `pkg.Service`")),
        false => Ok(text.to_owned()),
    }
}

fn path(text: &str) -> Result<String, Mistake> {
    let is_path = text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
    match is_path {
        true => Ok(text.to_owned()),
        false => Err(Mistake::new(format!("\"{text}\" is no path to ask for"), format!("write it as `{PATH}`"))),
    }
}

/// `50%`, in whole parts of a hundred.
fn percent(text: &str) -> Result<u32, Mistake> {
    let wrong = || Mistake::new(format!("\"{text}\" is not a share of the pool"), "write 0% to 100%, such as 50%");
    let Some(number) = text.strip_suffix('%').map(str::trim_end) else {
        return match text.parse::<u32>() {
            Ok(0..=100) => Err(Mistake::new(format!("\"{text}\" has no unit"), format!("write {text}%"))),
            _ => Err(wrong()),
        };
    };
    number.parse().ok().filter(|percent| *percent <= 100).ok_or_else(wrong)
}
