//! Amounts with units: sizes in bytes, times in nanoseconds, plain counts.

use std::time::Duration;

use super::problem::Mistake;

/// What an amount is an amount of. All are kept as `u64`: a count, bytes, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A whole number without a unit.
    Count,
    /// Bytes: B, KiB, MiB, GiB, TiB.
    Size,
    /// Time: ns, us, ms, s, m, h, d.
    Time,
    /// Whole hundredths, with a percent sign.
    Percent,
}

/// An amount an operator may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of what.
    pub unit: Unit,
    /// The least allowed.
    pub least: u64,
    /// The most allowed.
    pub most: u64,
    /// A word allowed besides: `off`, or a `0` that needs no unit.
    pub also: Option<&'static str>,
}

const SIZES: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
const TIMES: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Other spellings people bring, and ours. None is accepted: `5M` is a size to some and a time to others.
const ALIASES: [(Unit, &[&str], &str); 11] = [
    (Unit::Size, &["byte", "bytes"], "B"),
    (Unit::Size, &["k", "kb", "ki", "kib"], "KiB"),
    (Unit::Size, &["m", "mb", "mi", "mib", "meg"], "MiB"),
    (Unit::Size, &["g", "gb", "gi", "gib", "gig"], "GiB"),
    (Unit::Size, &["t", "tb", "ti", "tib"], "TiB"),
    (Unit::Time, &["msec", "millis", "milliseconds"], "ms"),
    (Unit::Time, &["µs", "usec", "micros"], "us"),
    (Unit::Time, &["sec", "secs", "second", "seconds"], "s"),
    (Unit::Time, &["min", "mins", "minute", "minutes"], "m"),
    (Unit::Time, &["hr", "hour", "hours"], "h"),
    (Unit::Time, &["day", "days"], "d"),
];

// === impl Unit ===

impl Unit {
    /// The amount as an operator would write it: the largest unit that needs no fraction.
    pub fn show(self, amount: u64) -> String {
        let names = self.names();
        let fits = |(_, size): &&(&str, u64)| amount > 0 && amount.is_multiple_of(*size);
        match names.iter().rev().find(fits) {
            Some((name, size)) => format!("{}{name}", amount / size),
            None => amount.to_string(),
        }
    }

    fn names(self) -> &'static [(&'static str, u64)] {
        match self {
            Unit::Count => &[],
            Unit::Size => &SIZES,
            Unit::Time => &TIMES,
            Unit::Percent => &[("%", 1)],
        }
    }

    fn parse(self, text: &str) -> Result<u64, Mistake> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, name) = (&text[..end], text[end..].trim());
        let wrong = || Mistake::new(format!("\"{text}\" is not {}", self.noun()), self.advice(number));
        if self == Unit::Count {
            let (Ok(count), "") = (number.parse(), name) else { return Err(wrong()) };
            return Ok(count);
        }
        if self == Unit::Percent && (number.contains('.') || number.is_empty()) {
            return Err(wrong());
        }
        if number.is_empty() || number.starts_with('.') || number.ends_with('.') {
            return Err(wrong());
        }
        if name.is_empty() {
            if number == "0" {
                return Ok(0);
            }
            return Err(Mistake::new(format!("\"{text}\" has no unit"), self.advice(number)));
        }
        let Some((_, size)) = self.names().iter().find(|(known, _)| *known == name) else {
            let lower = name.to_lowercase();
            let meant = ALIASES.iter().find(|(unit, others, _)| *unit == self && others.contains(&lower.as_str()));
            let mend = match meant {
                Some((_, _, ours)) => format!("write {number}{ours}"),
                None => self.advice(number),
            };
            return Err(Mistake::new(format!("\"{name}\" is not a unit of {}", self.of()), mend));
        };
        scale(number, *size).ok_or_else(wrong)
    }

    fn noun(self) -> &'static str {
        match self {
            Unit::Count => "a whole number",
            Unit::Size => "a size",
            Unit::Time => "a time",
            Unit::Percent => "a whole number of percent",
        }
    }

    fn of(self) -> &'static str {
        match self {
            Unit::Count => "counting",
            Unit::Size => "size",
            Unit::Time => "time",
            Unit::Percent => "shares",
        }
    }

    fn advice(self, number: &str) -> String {
        let usable = number.parse().is_ok_and(|number: f64| number > 0.0);
        let number = if usable { number } else { "5" };
        match self {
            Unit::Count => "write digits only, for example 8".to_owned(),
            Unit::Size => format!("write {number}KiB or {number}MiB (units: B, KiB, MiB, GiB, TiB)"),
            Unit::Percent => "write digits and a percent sign, for example 50%".to_owned(),
            Unit::Time => format!("write {number}s or {number}ms (units: ns, us, ms, s, m, h, d)"),
        }
    }
}

/// `number`, which may have a fraction, times `size`; `None` when it does not fit or is not a number.
fn scale(number: &str, size: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let whole = u128::from(whole.parse::<u64>().ok()?) * u128::from(size);
    let parts = if fraction.is_empty() { 0 } else { u128::from(fraction.parse::<u64>().ok()?) };
    let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    u64::try_from(whole + parts * u128::from(size) / power).ok()
}

// === impl Bounds ===

impl Bounds {
    /// Reads an amount and holds it against the bounds. `also` is the caller's to look for, except `0`.
    pub(super) fn read(&self, text: &str) -> Result<u64, Mistake> {
        let text = text.trim();
        if self.also == Some("0") && text == "0" {
            return Ok(0);
        }
        let mend = || format!("write {}", self.takes());
        if text == "off" {
            return Err(Mistake::new("cannot be off", mend()));
        }
        let amount = self.unit.parse(text)?;
        if amount == 0 && self.also == Some("0") {
            return Ok(0);
        }
        if amount < self.least {
            return Err(Mistake::new(format!("{text} is less than {}", self.unit.show(self.least)), mend()));
        }
        if amount > self.most {
            return Err(Mistake::new(format!("{text} is more than {}", self.unit.show(self.most)), mend()));
        }
        Ok(amount)
    }

    /// The bounds in words: `10ms to 1h, or off`.
    pub fn takes(&self) -> String {
        let range = format!("{} to {}", self.unit.show(self.least), self.unit.show(self.most));
        match self.also {
            Some(word) => format!("{range}, or {word}"),
            None => range,
        }
    }
}

/// A size as an operator would write it.
pub fn show_size(bytes: usize) -> String {
    Unit::Size.show(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// A time as an operator would write it.
pub fn show_time(time: Duration) -> String {
    Unit::Time.show(nanos(time))
}

/// A time as an amount.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_amount_is_a_number_and_a_unit() {
        assert_eq!(Unit::Time.parse("1ms"), Ok(1_000_000));
        assert_eq!(Unit::Time.parse("1.5 s"), Ok(1_500_000_000));
        assert_eq!(Unit::Size.parse("64KiB"), Ok(65_536));
        assert_eq!(Unit::Count.parse("12"), Ok(12));
        for wrong in ["", "ms", "-1s", "1m30s", "1..5s", "99999999999999999999s", "1e3s", ".s", "5.s"] {
            assert!(Unit::Time.parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_peoples_units_are_answered_with_ours() {
        assert_eq!(Unit::Size.parse("256MB").unwrap_err().mend, "write 256MiB");
        assert_eq!(Unit::Size.parse("1Gi").unwrap_err().mend, "write 1GiB");
        assert_eq!(Unit::Time.parse("5sec").unwrap_err().mend, "write 5s");
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(amount in 1_u64..) {
            for unit in [Unit::Count, Unit::Size, Unit::Time, Unit::Percent] {
                prop_assert_eq!(unit.parse(&unit.show(amount)), Ok(amount));
            }
        }
    }
}
