//! Who stands by, who is near, and who gets something back.

use super::*;

#[test]
fn the_first_by_tier_and_name_gets_everything_and_gets_it_back_once_it_lasts() {
    let tiers = [("c:1", 0), ("b:1", 0), ("a:1", 1)];
    let found = tiers.map(|(name, priority)| Found { priority, ..named(name) });
    let mut pool = Pool::with(Policy::PickFirst, found.to_vec());
    let all = |pool: &Pool| {
        let mut to: Vec<String> =
            [Tie::Sticky, Tie::Hashed, Tie::Affine].iter().flat_map(|tie| pool.owners(*tie)).collect();
        to.dedup();
        to
    };
    assert_eq!(all(&pool), ["b:1"]);
    pool.down(1);
    assert_eq!(all(&pool), ["c:1"]);
    pool.down(0);
    assert_eq!(all(&pool), ["a:1"]);
    pool.up(1);
    assert_eq!(all(&pool), ["a:1"], "until it has lasted");
    pool.at(3_611.0);
    assert_eq!(all(&pool), ["b:1"]);
}

#[test]
fn a_tier_stands_by_until_the_one_before_it_has_too_little_left() {
    let found = |at: usize| Found { priority: u32::from(at >= 4), ..named(&at.to_string()) };
    for (fail_over_below, serving_after) in [(0, [0, 0, 0, 1]), (50, [0, 0, 1, 1]), (100, [1, 1, 1, 1])] {
        let mut pool = Pool::with(Policy::LeastLoad, (0..6).map(found).collect());
        pool.settings.fail_over_below = fail_over_below;
        pool.look();
        assert_eq!(pool.roster.tier(), 0);
        for (gone, serving) in serving_after.into_iter().enumerate() {
            pool.down(gone);
            assert_eq!(pool.roster.tier(), serving, "below {fail_over_below}%, without {}", gone + 1);
            let shares = pool.shares(2_000, 9);
            let second: f64 = shares[4..].iter().sum();
            assert_eq!(second, f64::from(serving));
            assert!(pool.owners(Tie::Sticky).iter().all(|owner| (owner.as_str() >= "4") == (serving == 1)));
        }
        // Nobody at all: the first tier is what is left to hope for; somebody: it serves.
        (4..6).for_each(|at| pool.down(at));
        assert_eq!((pool.roster.tier(), choose(None, 1, &pool, |_| 0)), (0, None));
        pool.up(5);
        assert_eq!((pool.roster.tier(), choose(None, 1, &pool, |_| 0)), (1, Some(5)));
    }
}

#[test]
fn a_tier_serves_again_once_it_lasts_and_what_it_cannot_take_goes_on_meanwhile() {
    let found = |at: usize| Found { priority: u32::from(at == 1), ..named(&at.to_string()) };
    let mut pool = Pool::with(Policy::LeastLoad, (0..2).map(found).collect());
    pool.backends[0].is_full = true;
    assert_eq!(choose(None, 1, &pool, |_| 0), Some(1));
    pool.backends[0].is_full = false;
    pool.down(0);
    assert_eq!(pool.roster.tier(), 1);
    pool.up(0);
    assert_eq!(choose(None, 1, &pool, |_| 0), Some(1));
    pool.at(3_610.0);
    assert_eq!(choose(None, 1, &pool, |_| 0), Some(0));
}

#[test]
fn what_leaves_for_good_is_no_loss_to_its_tier() {
    let found = |at: usize| Found { priority: u32::from(at == 2), ..named(&at.to_string()) };
    let mut pool = Pool::with(Policy::LeastLoad, (0..3).map(found).collect());
    pool.settings.fail_over_below = 80;
    pool.change(0, |found| found.is_leaving = true);
    pool.down(0);
    assert_eq!(pool.roster.tier(), 0);
    pool.change(0, |found| found.is_leaving = false);
    assert_eq!(pool.roster.tier(), 1);
}

#[test]
fn what_is_not_tied_stays_in_the_zone_until_bytes_wait_there() {
    for policy in [Policy::LeastLoad, Policy::RoundRobin, Policy::Weighted] {
        let found = |at: usize| Found { zone: Some(["near", "far"][at % 2].to_owned()), ..named(&at.to_string()) };
        let mut pool = Pool::with(policy, (0..4).map(found).collect());
        pool.settings.zone = Some("near".to_owned());
        pool.look();
        assert_near(&pool.shares(4_000, 1), &[0.5, 0.0, 0.5, 0.0], 0.03);
        let owners = pool.owners(Tie::Sticky);
        assert!((0..4).all(|at| part_of(&owners, pool.name(at)) > 0.2), "keys know no zones");
        pool.backends.iter_mut().for_each(|backend| backend.load = 0);
        [0, 2].into_iter().for_each(|at| pool.backends[at].waiting = 1 << 20);
        let shares = pool.shares(4_000, 2);
        assert!(shares[1] > 0.2 && shares[3] > 0.2, "{shares:?}");
        pool.down(0);
        pool.down(2);
        assert_near(&pool.shares(4_000, 3), &[0.0, 0.5, 0.0, 0.5], 0.03);
        pool.settings.zone_spill = None;
        [0, 2].into_iter().for_each(|at| pool.up(at));
        pool.backends.iter_mut().for_each(|backend| backend.load = 0);
        assert_near(&pool.shares(4_000, 4), &[0.25; 4], 0.03);
    }
}
