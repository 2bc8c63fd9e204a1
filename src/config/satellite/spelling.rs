//! How Satellite writes values, and how we do.

use crate::config::unit::Unit;

/// Units of Go's durations, in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// As it is.
pub fn same(text: &str) -> String {
    text.to_owned()
}

/// A Go duration such as `1m30s`. What is none stays as it is, for whoever reads the setting to complain of.
pub fn duration(text: &str) -> String {
    nanos(text).map_or_else(|| text.to_owned(), |nanos| Unit::Time.show(nanos))
}

/// A number of seconds.
pub fn seconds(text: &str) -> String {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{text}s"),
        false => duration(text),
    }
}

/// A level of Satellite's log.
pub fn level(text: &str) -> String {
    match text.to_ascii_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "fatal" | "panic" => "error".to_owned(),
        other => other.to_owned(),
    }
}

/// Whether Go takes it for true.
pub fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn nanos(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
        let unit = rest[number..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| number + end);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == &rest[number..unit])?;
        sum = sum.checked_add(rest[..number].parse::<u64>().ok()?.checked_mul(*size)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_durations_become_ours() {
        let shown = ["20s", "1m30s", "1h", "500ms", "1h0m1s"].map(duration);
        assert_eq!(shown, ["20s", "90s", "1h", "500ms", "3601s"]);
        for wrong in ["", "20", "s", "1.5s", "-1s", "99999999999h", "1x"] {
            assert_eq!(duration(wrong), wrong);
        }
        assert_eq!((seconds("5"), seconds("5s")), ("5s".to_owned(), "5s".to_owned()));
    }

    #[test]
    fn levels_become_ours() {
        assert_eq!(["WARNING", "fatal", "Debug", "loud"].map(level), ["warn", "error", "debug", "loud"]);
    }
}
