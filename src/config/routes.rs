//! Routes: what the operator wants done with messages, rule by rule; what a rule comes to is `compile`'s to say.

use std::sync::Arc;
use std::time::Duration;

use super::conditions::Condition;
use super::file::{Node, Shape};
use super::problem::{Findings, Mistake};
use super::section::{Section, Written, scalar};
use super::{fields, keys};
use crate::route::rule::{Malformed, Rate};

/// A route as the operator wrote it, each part right for itself.
pub(super) struct RouteDraft<'a> {
    /// Its place in the file: `routes[2]`.
    pub path: String,
    /// Its metric label.
    pub name: String,
    pub condition: Condition<'a>,
    pub to: Option<Written<'a>>,
    /// Why its messages are dropped, if they are.
    pub drop: Option<Arc<str>>,
    pub sample: Option<ShareDraft<'a>>,
    pub mirror: Option<MirrorDraft<'a>>,
    pub limit: Option<LimitDraft<'a>>,
    pub key: Vec<Written<'a>>,
    pub malformed: Malformed,
}

/// A share of messages.
pub(super) struct ShareDraft<'a> {
    /// In parts of a million.
    pub parts: u32,
    pub by: Vec<Written<'a>>,
}

/// A share that goes to another pool as well.
pub(super) struct MirrorDraft<'a> {
    pub to: Option<Written<'a>>,
    pub share: ShareDraft<'a>,
}

/// How many messages may pass.
pub(super) struct LimitDraft<'a> {
    pub rate: Arc<Rate>,
    pub per: Vec<Written<'a>>,
}

/// All of them.
const MILLION: u32 = 1_000_000;
/// Longest name of a route, and longest reason to drop: both are metric labels.
const LABEL_CHARS_MAX: usize = 100;
/// Most messages a second: more than any gateway takes, and few enough to be counted in nanoseconds.
const RATE_MAX: f64 = 10_000_000.0;

/// Reads the list under `routes:`.
pub(super) fn read<'a>(root: &Section<'a>, findings: &mut Findings<'_>) -> Vec<RouteDraft<'a>> {
    let Some(node) = root.node("routes") else { return Vec::new() };
    let items = match &node.value {
        Shape::List(items) => items.as_slice(),
        Shape::Nothing => &[],
        Shape::Scalar(_) | Shape::Map(_) => {
            let mistake =
                Mistake::new("takes a list of routes", "write `routes:` and below it `- flow: logs`, `  to: archive`");
            findings.error(findings.place(node.referenced), "routes", mistake);
            &[]
        }
    };
    let mut routes: Vec<RouteDraft<'a>> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let Some(route) = route(item, format!("routes[{at}]"), findings) else { continue };
        if let Some(other) = routes.iter().find(|other| other.name == route.name) {
            let what = format!("{} has this name already, and their counts would be one", other.path);
            findings.error_in(&format!("{}.name", route.path), Mistake::new(what, "give it another name"));
        }
        routes.push(route);
    }
    routes
}

fn route<'a>(node: &'a Node, path: String, findings: &mut Findings<'_>) -> Option<RouteDraft<'a>> {
    if !matches!(node.value, Shape::Map(_)) {
        let mistake =
            Mistake::new("takes conditions and what becomes of messages", "write `{ flow: logs, to: archive }`");
        findings.error(findings.place(node.referenced), &path, mistake);
        return None;
    }
    let section = Section::of(node, "routes", path.clone(), findings);
    let drop: Option<Arc<str>> = section.read("drop", findings, label).map(Arc::from);
    note_what_drop_excludes(&section, findings);
    let malformed = [Malformed::Refuse, Malformed::Pass];
    Some(RouteDraft {
        name: section.read("name", findings, label).unwrap_or_else(|| path.clone()),
        condition: Condition::read(&section, findings),
        to: section.node("to").and_then(|node| scalar(node, section.key("to"), findings)),
        drop,
        sample: section.node("sample").and_then(|node| sample(node, &section, findings)),
        mirror: section.has("mirror").then(|| mirror(&section, findings)),
        limit: section.node("limit").and_then(|node| limit(node, &section, findings)),
        key: fields::names(&section, "key", findings),
        malformed: section
            .word("malformed", keys::MALFORMED, findings)
            .map_or(Malformed::Refuse, |word| malformed[word]),
        path,
    })
}

fn note_what_drop_excludes(section: &Section<'_>, findings: &mut Findings<'_>) {
    if !section.has("drop") {
        return;
    }
    for name in ["to", "sample", "mirror", "limit", "key"] {
        if let Some(node) = section.node(name) {
            let mistake =
                Mistake::new("the route drops its messages: nothing is left for this", "remove it, or `drop`");
            findings.error(findings.place(node.referenced), &section.key(name), mistake);
        }
    }
}

/// A word of the operator's that becomes a metric label.
fn label(text: &str) -> Result<String, Mistake> {
    if text.chars().count() > LABEL_CHARS_MAX || text.chars().any(char::is_control) {
        let what = "is too long, or has characters that cannot be shown";
        return Err(Mistake::new(what, format!("write up to {LABEL_CHARS_MAX} letters, digits and signs")));
    }
    Ok(text.to_owned())
}

/// `sample: 10%`, or settings.
fn sample<'a>(node: &'a Node, section: &Section<'a>, findings: &mut Findings<'_>) -> Option<ShareDraft<'a>> {
    let key = section.key("sample");
    let (parts, by) = if matches!(node.value, Shape::Map(_)) {
        let inside = section.section("sample", findings);
        if !inside.has("share") {
            findings.error_within(&key, Mistake::new("nothing is said of how many", "write `share: 10%`"));
        }
        (inside.read("share", findings, percent), fields::names(&inside, "by", findings))
    } else {
        (section.read("sample", findings, percent), Vec::new())
    };
    let parts = parts?;
    if parts == 0 {
        findings.error_within(&key, Mistake::new("nothing would be left", "write `drop: why` instead"));
    } else if parts == MILLION {
        findings.warn_of(&key, Mistake::new("everything is left", "remove it, or sample less"));
    }
    Some(ShareDraft { parts, by })
}

fn mirror<'a>(section: &Section<'a>, findings: &mut Findings<'_>) -> MirrorDraft<'a> {
    let key = section.key("mirror");
    let inside = match section.node("mirror").map(|node| (node, &node.value)) {
        Some((node, Shape::Scalar(_))) => {
            findings.remember(&key, &key, findings.place(node.referenced));
            let share = ShareDraft { parts: MILLION, by: Vec::new() };
            return MirrorDraft { to: scalar(node, key, findings), share };
        }
        _ => section.section("mirror", findings),
    };
    if !inside.has("to") {
        findings.error_within(&key, Mistake::new("nothing is said of where to", "write `to:` and the name of a pool"));
    }
    let parts = inside.read("share", findings, percent).unwrap_or(MILLION);
    if parts == 0 {
        findings.error_within(&inside.key("share"), Mistake::new("nothing would be copied", "remove `mirror`"));
    }
    MirrorDraft {
        to: inside.node("to").and_then(|node| scalar(node, inside.key("to"), findings)),
        share: ShareDraft { parts, by: fields::names(&inside, "by", findings) },
    }
}

/// `limit: 5k/s`, or settings.
fn limit<'a>(node: &'a Node, section: &Section<'a>, findings: &mut Findings<'_>) -> Option<LimitDraft<'a>> {
    if !matches!(node.value, Shape::Map(_)) {
        let (messages, period) = section.read("limit", findings, rate)?;
        let rate = Rate::new(messages, period, per_second(messages, period));
        return Some(LimitDraft { rate: Arc::new(rate), per: Vec::new() });
    }
    let inside = section.section("limit", findings);
    if !inside.has("rate") {
        let mistake = Mistake::new("nothing is said of how many may pass", "write `rate: 5k/s`");
        findings.error(findings.place(node.referenced), &section.key("limit"), mistake);
    }
    let rate = inside.read("rate", findings, rate);
    let burst = inside.has("burst").then(|| inside.count("burst", 1, findings));
    let per = fields::names(&inside, "per", findings);
    let (messages, period) = rate?;
    let burst = burst.unwrap_or_else(|| per_second(messages, period));
    Some(LimitDraft { rate: Arc::new(Rate::new(messages, period, burst)), per })
}

/// What a second brings at this rate; at least one.
fn per_second(messages: u32, period: Duration) -> u32 {
    messages / u32::try_from(period.as_secs()).unwrap_or(1).max(1)
}

/// `10%` in parts of a million.
fn percent(text: &str) -> Result<u32, Mistake> {
    let wrong =
        || Mistake::new(format!("\"{text}\" is not a share"), "write 10% or 0.1%, up to four digits behind the dot");
    let Some(number) = text.strip_suffix('%').map(str::trim_end) else {
        if text.parse::<f64>().is_ok() {
            return Err(Mistake::new(format!("\"{text}\" has no unit"), format!("write {text}%")));
        }
        return Err(wrong());
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || whole.len() > 3
        || fraction.len() > 4
        || !digits(whole)
        || !digits(fraction)
        || number.ends_with('.')
    {
        return Err(wrong());
    }
    let parts: u32 = format!("{whole}{fraction:0<4}").parse().map_err(|_| wrong())?;
    if parts > MILLION {
        return Err(Mistake::new(format!("{text} is more than all"), "write 0.0001% to 100%"));
    }
    Ok(parts)
}

/// `5k/s`: messages, and the time they are counted in.
fn rate(text: &str) -> Result<(u32, Duration), Mistake> {
    let mend = "write 100/s, 5k/s, 1.5M/s, or 30/m for thirty a minute";
    let wrong = || Mistake::new(format!("\"{text}\" is not a rate"), mend);
    let Some((number, period)) = text.split_once('/') else {
        return Err(Mistake::new(format!("\"{text}\" does not say in which time"), mend));
    };
    let period = match period.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    let number = number.trim();
    let (digits, times) = match number.strip_suffix('k') {
        Some(digits) => (digits, 1e3),
        None => number.strip_suffix('M').map_or((number, 1.0), |digits| (digits, 1e6)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong());
    }
    let messages = digits.parse::<f64>().map_err(|_| wrong())? * times;
    if messages < 1.0 || messages.fract() != 0.0 {
        return Err(Mistake::new(
            format!("\"{text}\" is no whole number of messages"),
            "count them in a longer time, as in 30/m",
        ));
    }
    if messages > RATE_MAX {
        return Err(Mistake::new(format!("{text} is more than 10M"), "write up to 10M/s, or remove the limit"));
    }
    // Within 1 and 10 million, and whole.
    Ok((messages as u32, Duration::from_secs(period)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_counted_in_millionths() {
        for (text, parts) in
            [("10%", 100_000), ("0.0001%", 1), ("100%", 1_000_000), ("33.3%", 333_000), ("0%", 0), ("1 %", 10_000)]
        {
            assert_eq!(percent(text), Ok(parts), "{text}");
        }
        for wrong in ["", "%", "10", "0.1", "-1%", "101%", "1.00001%", ".5%", "5.%", "1000%", "x%", "1e2%", "1.2.3%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        assert_eq!(percent("10").unwrap_err().mend, "write 10%");
    }

    #[test]
    fn a_rate_is_messages_and_a_time() {
        for (text, messages, seconds) in
            [("5k/s", 5_000, 1), ("1/s", 1, 1), ("1.5M/s", 1_500_000, 1), ("30/m", 30, 60), ("2 / h", 2, 3_600)]
        {
            assert_eq!(rate(text), Ok((messages, Duration::from_secs(seconds))), "{text}");
        }
        for wrong in
            ["", "5", "5k", "0/s", "0.5/s", "5/d", "/s", "-5/s", "11M/s", "5K/s", "1e3/s", "1..5k/s", "inf/s", "NaN/s"]
        {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
