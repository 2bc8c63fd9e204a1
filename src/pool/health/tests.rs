//! The state machine on its own: time and checks are made up.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn health(change: impl FnOnce(&mut HealthSettings)) -> (Health, Instant) {
    let mut settings = HealthSettings::default();
    change(&mut settings);
    let now = Instant::now();
    (Health::new(settings, now, 0.5), now)
}

/// Passes the check that is due; answers when that was.
fn pass(health: &mut Health) -> Instant {
    let at = health.check_at().expect("a check is due");
    health.checked(None, at, at, 0.5);
    at
}

/// Passes checks until it is back; answers when that was.
fn come_back(health: &mut Health) -> Instant {
    for _ in 0..200 {
        let at = pass(health);
        if health.fault().is_none() {
            return at;
        }
    }
    panic!("it does not come back: {health:?}");
}

#[test]
fn failures_eject_only_in_a_row() {
    let (mut health, now) = health(|_| {});
    for _ in 0..5 {
        health.failed(now);
        health.failed(now);
        health.answered();
    }
    assert_eq!(health.fault(), None);
    (0..3).for_each(|_| health.failed(now));
    assert_eq!(health.fault(), Some(Fault::Failing));
    assert_eq!(come_back(&mut health), now + SECOND);
}

#[test]
fn a_backend_ejected_again_and_again_stays_out_longer_each_time_and_is_forgiven() {
    let (mut health, start) = health(|settings| settings.fall = 1);
    let mut now = start;
    let waits: Vec<u64> = (0..7)
        .map(|_| {
            health.late(now);
            let back = come_back(&mut health);
            let wait = back - now;
            now = back;
            wait.as_secs()
        })
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    (0..FORGIVEN_AFTER).for_each(|_| health.answered());
    health.late(now);
    assert_eq!(come_back(&mut health), now + SECOND);
}

#[test]
fn a_suspect_that_answers_is_up_again_and_nothing_is_held_against_it() {
    let (mut health, now) = health(|_| {});
    health.suspect(now);
    assert_eq!((health.fault(), health.is_usable()), (Some(Fault::Suspect), false));
    assert_eq!(health.check_at(), Some(now), "whether it is there at all is asked at once");
    health.answered();
    assert_eq!((health.fault(), health.ramp(now)), (None, 1_000));
    health.late(now);
    assert_eq!(come_back(&mut health), now + SECOND, "the first ejection, for there was none before");
}

#[test]
fn a_frozen_backend_is_gone_with_the_first_check_it_does_not_answer() {
    let (mut health, now) = health(|_| {});
    health.suspect(now);
    health.spare(true);
    assert!(!health.is_usable(), "nothing shows that it is alive");
    health.checked(Some(Fault::Unreachable), now, now + SECOND, 0.5);
    assert_eq!((health.fault(), health.is_usable()), (Some(Fault::Unreachable), false));
    assert_eq!(health.standing(), Standing::Gone);
    health.late(now + SECOND);
    assert_eq!(health.fault(), Some(Fault::Unreachable), "its late answers say nothing new");
    come_back(&mut health);
}

#[test]
fn a_slow_backend_that_is_alive_is_used_when_the_pool_spares_it() {
    let (mut health, now) = health(|_| {});
    health.late(now);
    health.spare(true);
    assert!(!health.is_usable());
    assert_eq!(pass(&mut health), now);
    assert!(health.is_usable());
    assert_eq!(health.fault(), Some(Fault::Late));
    health.spare(false);
    assert!(!health.is_usable());
}

#[test]
fn a_failing_backend_that_is_spared_rests_longer_after_each_failure() {
    let (mut health, start) = health(|settings| {
        settings.fall = 1;
        settings.ejection = Duration::from_secs(60);
        settings.ejection_max = Duration::from_secs(60);
    });
    let mut now = start;
    health.spare(true);
    health.failed(now);
    let rests: Vec<u128> = (0..6)
        .map(|_| {
            assert!(!health.is_usable());
            let usable_at = pass(&mut health);
            assert!(health.is_usable());
            let rest = usable_at - now;
            now = usable_at;
            (0..5).for_each(|_| health.failed(now));
            rest.as_millis()
        })
        .collect();
    assert_eq!(rests, [250, 500, 1_000, 2_000, 2_000, 2_000]);
    health.answered();
    health.failed(now);
    assert_eq!(health.check_at(), Some(now + REST_MIN), "an answer forgives");
}

#[test]
fn checks_of_one_that_is_up_take_it_out_after_fall_and_bring_it_back_after_rise() {
    let (mut health, start) = health(|settings| {
        settings.interval = Some(5 * SECOND);
        (settings.rise, settings.fall) = (2, 3);
    });
    let mut now = start;
    for left in [2, 1, 0] {
        let at = health.check_at().unwrap();
        assert!(at - now <= SECOND, "checks that disagree with what is believed come five times as often");
        now = at;
        health.checked(Some(Fault::Unhealthy), now, now, 0.5);
        assert_eq!(health.fault().is_none(), left > 0);
    }
    assert_eq!(health.fault(), Some(Fault::Unhealthy));
    health.spare(true);
    assert!(!health.is_usable(), "what says that it is not well is not used in any panic");
    let first = pass(&mut health);
    assert_eq!(health.fault(), Some(Fault::Unhealthy));
    assert_eq!(pass(&mut health), first + SECOND);
    assert_eq!(health.fault(), None);
    assert_eq!(health.check_at(), Some(first + SECOND + 5 * SECOND));
}

#[test]
fn a_check_that_began_before_the_connection_broke_proves_nothing() {
    let (mut health, start) = health(|_| {});
    let (begun, lost) = (start, start + SECOND);
    health.unreachable(lost, 0.5);
    health.checked(None, begun, lost + SECOND, 0.5);
    assert_eq!(health.fault(), Some(Fault::Unreachable));
    come_back(&mut health);
}

#[test]
fn who_comes_back_starts_slowly_and_who_was_there_from_the_start_does_not() {
    let (mut health, now) = health(|_| {});
    assert_eq!(health.ramp(now), 1_000);
    health.unreachable(now, 0.5);
    let back = come_back(&mut health);
    let parts: Vec<u32> = [0, 1, 5, 9, 10, 11].map(|seconds| health.ramp(back + seconds * SECOND)).to_vec();
    assert_eq!(parts, [100, 190, 550, 910, 1_000, 1_000]);
    let (mut at_once, now) = self::health(|settings| settings.slow_start = Duration::ZERO);
    at_once.start_slowly(now);
    assert_eq!(at_once.ramp(now), 1_000);
}

#[test]
fn other_settings_hold_at_once() {
    let (mut health, now) = health(|_| {});
    assert_eq!(health.check_at(), None);
    let asked = HealthSettings { interval: Some(10 * SECOND), fall: 1, ..HealthSettings::default() };
    health.reconfigure(asked, now, 0.5);
    assert_eq!(health.check_at(), Some(now + SECOND));
    health.failed(now);
    assert_eq!(health.fault(), Some(Fault::Failing));
    health.reconfigure(HealthSettings::default(), now, 0.5);
    assert!(health.check_at().is_some(), "one that is out is asked whatever the settings");
    come_back(&mut health);
    assert_eq!(health.check_at(), None);
}

/// What may happen to a backend.
#[derive(Debug, Clone, Copy)]
enum Event {
    Answered,
    Failed,
    Late,
    Suspect,
    Unreachable,
    /// Whether the check that is due passes, and what it finds if not.
    Check(Option<Fault>),
    Spare(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Answered),
        2 => Just(Event::Failed),
        1 => Just(Event::Late),
        1 => Just(Event::Suspect),
        1 => Just(Event::Unreachable),
        4 => prop_oneof![
            2 => Just(None),
            1 => Just(Some(Fault::Unreachable)),
            1 => Just(Some(Fault::Unhealthy)),
        ].prop_map(Event::Check),
        1 => any::<bool>().prop_map(Event::Spare),
    ]
}

fn settings() -> impl Strategy<Value = HealthSettings> {
    (prop::option::of(1u64..20), 1u32..4, 1u32..5, 1u64..5).prop_map(|(interval, rise, fall, ejection)| {
        HealthSettings {
            interval: interval.map(Duration::from_secs),
            rise,
            fall,
            ejection: Duration::from_secs(ejection),
            ..HealthSettings::default()
        }
    })
}

proptest! {
    #[test]
    fn whatever_happens_what_the_checks_say_holds(
        settings in settings(), events in prop::collection::vec((event(), 0u64..3_000, 0.0f64..=1.0), 1..200),
    ) {
        let start = Instant::now();
        let (mut now, mut failed_in_row) = (start, 0);
        let fall = settings.fall;
        let mut health = Health::new(settings, now, 0.5);
        for (event, millis, jitter) in events {
            now += Duration::from_millis(millis);
            match event {
                Event::Answered => health.answered(),
                Event::Failed => health.failed(now),
                Event::Late => health.late(now),
                Event::Suspect => health.suspect(now),
                Event::Unreachable => health.unreachable(now, jitter),
                Event::Spare(is_spared) => health.spare(is_spared),
                Event::Check(found) => {
                    let Some(due) = health.check_at() else { continue };
                    now = now.max(due);
                    health.checked(found, now, now, jitter);
                    failed_in_row = if found.is_some() { failed_in_row + 1 } else { 0 };
                    if failed_in_row >= fall {
                        prop_assert!(!health.is_usable(), "the last {} checks failed: {:?}", failed_in_row, health);
                    }
                }
            }
            if health.fault().is_some() {
                let due = health.check_at();
                prop_assert!(due.is_some(), "nobody would ever ask for it again: {:?}", health);
                prop_assert!(due <= Some(now + Duration::from_secs(30)), "asked for far too late: {:?}", health);
            }
            if let State::Out { since, until, .. } = health.state {
                prop_assert!(since <= now && until >= since, "time runs backwards: {:?}", health);
            }
            let part = health.ramp(now);
            prop_assert!((RAMP_FROM..=RAMP_TO).contains(&part));
            if health.standing() == Standing::Gone {
                prop_assert!(!health.is_usable());
            }
        }
    }

    #[test]
    fn a_backend_that_is_always_good_never_leaves(
        settings in settings(), jitters in prop::collection::vec(0.0f64..=1.0, 1..100),
    ) {
        let mut now = Instant::now();
        let interval = settings.interval;
        let mut health = Health::new(settings, now, 0.5);
        for jitter in jitters {
            health.answered();
            if let Some(due) = health.check_at() {
                prop_assert!(due - now <= interval.unwrap().mul_f64(1.1));
                now = due;
                health.checked(None, now, now, jitter);
                prop_assert!(health.check_at().unwrap() - now >= interval.unwrap().mul_f64(0.9));
            }
            prop_assert!(health.is_usable() && health.fault().is_none());
        }
    }

    #[test]
    fn a_backend_that_always_fails_is_tried_four_times_a_second_at_most(
        settings in settings(), is_spared in any::<bool>(),
    ) {
        let start = Instant::now();
        let (mut now, mut tries) = (start, 0);
        let mut health = Health::new(settings.clone(), now, 0.5);
        health.spare(is_spared);
        while now < start + Duration::from_secs(60) {
            while health.is_usable() {
                tries += 1;
                health.failed(now);
            }
            now = now.max(health.check_at().unwrap());
            health.checked(None, now, now, 0.5);
        }
        // Each time it is up again it may fail as often as it takes to be out.
        prop_assert!(tries <= 60 * 4 * settings.fall, "{} tries in a minute", tries);
    }

    #[test]
    fn checks_of_a_dead_backend_are_never_more_than_two_seconds_apart_nor_nearer_than_fifty_milliseconds(
        jitters in prop::collection::vec(0.0f64..=1.0, 1..40),
    ) {
        let mut now = Instant::now();
        let mut health = Health::new(HealthSettings::default(), now, 0.5);
        health.unreachable(now, jitters[0]);
        for jitter in jitters {
            let due = health.check_at().unwrap();
            prop_assert!(due - now >= Duration::from_millis(50) && due - now <= Duration::from_secs(2));
            now = due;
            health.checked(Some(Fault::Unreachable), now, now, jitter);
            prop_assert_eq!(health.fault(), Some(Fault::Unreachable));
        }
        health.checked(None, now, now, 0.5);
        prop_assert_eq!(health.fault(), None);
    }

    #[test]
    fn the_ramp_only_rises(window in 1u64..100_000, steps in prop::collection::vec(0u64..5_000, 1..50)) {
        let (mut since, mut before) = (Duration::ZERO, 0);
        for step in steps {
            since += Duration::from_millis(step);
            let part = ramp(since, Duration::from_millis(window));
            prop_assert!(part >= before && (RAMP_FROM..=RAMP_TO).contains(&part));
            before = part;
        }
    }
}
