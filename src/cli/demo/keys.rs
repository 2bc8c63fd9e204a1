//! What is done to the demo while it runs, by keys or by the clock.

use std::collections::VecDeque;
use std::time::Duration;

/// Something done to the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Kill the next collector that runs, abruptly.
    Kill,
    /// Bring every dead collector back.
    Revive,
    /// End: agents first, then gateway, then collectors.
    Quit,
}

/// What a key asks for, if anything.
pub fn action(key: u8) -> Option<Action> {
    match key {
        b'k' | b'K' => Some(Action::Kill),
        b'r' | b'R' => Some(Action::Revive),
        // Ctrl-C arrives as SIGINT; 3 and 4 (Ctrl-D) come from terminals that do not make signals.
        b'q' | b'Q' | 3 | 4 => Some(Action::Quit),
        _ => None,
    }
}

/// What is to be done by the clock, in order of time.
pub fn script(
    seconds: Option<Duration>,
    kill_after: Option<Duration>,
    revive_after: Option<Duration>,
) -> VecDeque<(Duration, Action)> {
    let revive_at = kill_after.zip(revive_after).map(|(kill, revive)| kill + revive);
    let times = [(kill_after, Action::Kill), (revive_at, Action::Revive), (seconds, Action::Quit)];
    let mut script: Vec<_> = times.into_iter().filter_map(|(at, action)| Some((at?, action))).collect();
    script.sort_by_key(|(at, _)| *at);
    script.into()
}

/// Which collector a kill hits: the first that runs, from `turn` on and around.
pub fn victim(turn: usize, running: &[bool]) -> Option<usize> {
    (0..running.len()).map(|step| (turn + step) % running.len()).find(|at| running[*at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_the_last_line_says() {
        assert_eq!(action(b'k'), Some(Action::Kill));
        assert_eq!(action(b'r'), Some(Action::Revive));
        assert_eq!(action(b'q'), Some(Action::Quit));
        assert_eq!(action(3), Some(Action::Quit));
        assert!(b"\x1b[A\n x".iter().all(|key| action(*key).is_none()), "an arrow key does nothing");
    }

    #[test]
    fn the_clock_acts_in_order_of_time() {
        let seconds = |number| Some(Duration::from_secs(number));
        let actions: Vec<Action> = script(seconds(10), seconds(3), seconds(4)).into_iter().map(|it| it.1).collect();
        assert_eq!(actions, [Action::Kill, Action::Revive, Action::Quit]);
        assert_eq!(script(seconds(2), seconds(3), None)[0], (Duration::from_secs(2), Action::Quit));
        assert!(script(None, None, seconds(3)).is_empty(), "nothing was killed, so nothing is revived");
    }

    #[test]
    fn kills_go_around_and_leave_out_the_dead() {
        assert_eq!(victim(1, &[true, true, true]), Some(1));
        assert_eq!(victim(1, &[true, false, true]), Some(2));
        assert_eq!(victim(2, &[true, false, false]), Some(0));
        assert_eq!(victim(0, &[false, false, false]), None);
    }
}
