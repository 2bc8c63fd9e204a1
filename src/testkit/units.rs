//! Durations as people write them on a command line: `250ms`, `1.5s`, `2m`.

use std::time::Duration;

/// Reads a number with a unit `us`, `ms`, `s`, `m` or `h`; a bare number is seconds.
///
/// # Errors
/// What is wrong with it, for the person who wrote it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("unknown unit {unit:?}: use us, ms, s, m or h")),
    };
    let number: f64 = digits.trim().parse().map_err(|_| format!("{digits:?} is not a number"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| format!("{text:?} is not a length of time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_written() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("50us"), Ok(Duration::from_micros(50)));
        for bad in ["", "s", "1d", "-1s", "x"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
