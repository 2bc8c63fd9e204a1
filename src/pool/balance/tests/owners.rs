//! Whom keys belong to, and when that changes.

use super::*;

#[test]
fn replicas_with_shuffled_lists_agree_on_every_key() {
    for weights in [vec![1; 7], vec![1, 2, 3, 4, 5, 6, 7]] {
        let pool = Pool::weighing(Policy::Hash, &weights);
        let mut found: Vec<Found> = pool.backends.iter().map(|backend| backend.found.clone()).collect();
        fastrand::Rng::with_seed(5).shuffle(&mut found);
        let other = Pool::with(Policy::LeastLoad, found);
        for tie in [Tie::Sticky, Tie::Hashed] {
            assert_eq!(pool.owners(tie), other.owners(tie));
        }
    }
}

#[test]
fn owners_of_before_weights_are_owners_still() {
    let pool = Pool::of(Policy::Hash, 5);
    let before = |key: u64| (0..5).max_by_key(|at| mix(key ^ hash_of_name(pool.name(*at)))).unwrap();
    let same = pool.owners(Tie::Sticky).iter().zip(0..).all(|(owner, key)| owner == pool.name(before(mix(key))));
    assert!(same);
}

#[test]
fn the_first_in_order_owns_the_key_and_the_next_inherits_it() {
    let mut pool = Pool::weighing(Policy::Hash, &[1, 3, 1, 2, 5]);
    for key in 0..200 {
        let order = pool.roster.in_order(key);
        assert_eq!(choose(Some(Tie::Sticky(key)), 1, &pool, |_| 0), Some(order[0]));
        pool.backends[order[0]].is_full = true;
        assert_eq!(choose(Some(Tie::Sticky(key)), 1, &pool, |_| 0), Some(order[1]));
        pool.backends[order[0]].is_full = false;
    }
}

#[test]
fn keys_are_shared_out_by_weight() {
    let pool = Pool::weighing(Policy::Hash, &[1, 2, 3, 4]);
    let owners = pool.owners(Tie::Sticky);
    let parts: Vec<f64> = (0..4).map(|at| part_of(&owners, pool.name(at))).collect();
    assert_near(&parts, &[0.1, 0.2, 0.3, 0.4], 0.02);
}

#[test]
fn adding_one_of_n_moves_no_more_than_its_share_and_only_to_it() {
    for count in [1, 2, 4, 9, 30, 299] {
        let mut pool = Pool::of(Policy::Hash, count);
        let before = pool.owners(Tie::Sticky);
        pool.add(named("new:1"));
        pool.at(3_700.0);
        let after = pool.owners(Tie::Sticky);
        let share = 1.0 / (count + 1) as f64;
        let moved = moved(&before, &after);
        assert!(moved <= share + 0.02 && moved >= share * 0.8, "{moved:.4} of {count} + 1");
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == "new:1"));
    }
}

#[test]
fn a_tenth_more_weight_moves_about_that_part_and_only_to_it() {
    let mut pool = Pool::weighing(Policy::Hash, &[10, 10, 10, 10]);
    let before = pool.owners(Tie::Sticky);
    pool.change(2, |found| found.weight = 11);
    let after = pool.owners(Tie::Sticky);
    // From 10 of 40 to 11 of 41.
    let moved = moved(&before, &after);
    assert!((moved - (11.0 / 41.0 - 0.25)).abs() < 0.005, "{moved}");
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == pool.name(2)));
}

#[test]
fn a_lost_backend_moves_its_own_keys_only_and_at_once() {
    let mut pool = Pool::of(Policy::Hash, 5);
    let before = pool.owners(Tie::Sticky);
    pool.down(2);
    let after = pool.owners(Tie::Sticky);
    assert!(before.iter().zip(&after).all(|(before, after)| (before != after) == (before == pool.name(2))));
}

#[test]
fn sticky_keys_go_to_a_new_backend_once_it_has_lasted_and_others_at_once() {
    let mut pool = Pool::of(Policy::Hash, 4);
    let before = pool.owners(Tie::Sticky);
    pool.add(named("new:1"));
    assert_eq!(pool.owners(Tie::Sticky), before);
    let hashed = pool.owners(Tie::Hashed);
    assert!(part_of(&hashed, "new:1") > 0.15);
    pool.at(3_609.9);
    assert_eq!(pool.owners(Tie::Sticky), before);
    pool.at(3_610.0);
    assert_eq!(pool.owners(Tie::Sticky), hashed);
}

#[test]
fn flapping_within_the_window_moves_nothing() {
    let mut pool = Pool::of(Policy::Hash, 4);
    pool.down(1);
    let without = pool.owners(Tie::Sticky);
    for turn in 0..5 {
        pool.at(3_601.0 + f64::from(turn) * 12.0);
        pool.up(1);
        pool.at(3_610.5 + f64::from(turn) * 12.0);
        assert_eq!(pool.owners(Tie::Sticky), without);
        pool.down(1);
        assert_eq!(pool.owners(Tie::Sticky), without);
    }
}

#[test]
fn no_key_jumps_twice_when_one_backend_dies_and_comes_back() {
    let mut pool = Pool::of(Policy::Hash, 3);
    let mut seen = vec![pool.owners(Tie::Sticky)];
    for step in 1..40 {
        match step {
            10 => pool.down(0),
            15 => pool.up(0),
            _ => pool.at(3_600.0 + f64::from(step)),
        }
        seen.push(pool.owners(Tie::Sticky));
    }
    let jumps = |key: usize| seen.windows(2).filter(|two| two[0][key] != two[1][key]).count();
    let most = (0..KEYS as usize).map(jumps).max();
    // To another at its death, and back.
    assert_eq!((most, moved(&seen[0], &seen[39])), (Some(2), 0.0));
}

#[test]
fn a_pool_that_is_new_itself_hands_nothing_over_later() {
    let mut pool = Pool::of(Policy::Hash, 0);
    pool.at(0.0);
    pool.add(named("a:1"));
    pool.at(4.0);
    pool.add(named("b:1"));
    pool.at(9.0);
    pool.add(named("c:1"));
    let from_the_start = pool.owners(Tie::Sticky);
    assert!(["a:1", "b:1", "c:1"].iter().all(|name| part_of(&from_the_start, name) > 0.3));
    for seconds in [10.0, 14.0, 19.0, 60.0] {
        pool.at(seconds);
        assert_eq!(pool.owners(Tie::Sticky), from_the_start);
    }
}
