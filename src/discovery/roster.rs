//! Who is told of: those that are ready, those that leave, and, when nobody is ready, those that last were.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::pool::found::Found;

/// How a backend stands, by what its source says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is there and not to be used.
    #[cfg_attr(not(any(feature = "k8s", test)), expect(dead_code, reason = "etcd knows no such keys"))]
    Unready,
    /// It ends; what it has it may finish.
    Leaving,
    /// It takes messages.
    Ready,
}

/// One backend as its source shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who and where; whether it leaves is said by its standing.
    pub found: Found,
    /// How it stands.
    pub standing: Standing,
}

/// What one source was found to have, from one look to the next.
#[derive(Debug, Default)]
pub struct Roster {
    /// Those that were ready when somebody last was, by name. They stay in use while nobody is ready: a readiness check
    /// that fails everywhere, or a registry that forgets, must not stop all traffic.
    good: BTreeMap<String, Found>,
    /// What the last look came to.
    told: BTreeMap<String, Found>,
}

/// What a look comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Somebody is ready: these are all, those that leave among them.
    Ready(Vec<Found>),
    /// Nobody is ready, and what was told last holds.
    Kept,
    /// Nobody is ready, and of those that are kept somebody leaves or is gone: these are left.
    Left(Vec<Found>),
}

// === impl Roster ===

impl Roster {
    /// Takes all that a source shows now, and answers what is to be told.
    ///
    /// A backend that is shown twice counts as the better of the two, and where both stand alike as the one with an IPv4
    /// address: the slices of a service show its pods once for each family, and now and then twice while they are rewritten.
    pub fn look(&mut self, all: impl IntoIterator<Item = Seen>) -> Look {
        let rank = |seen: &Seen| (seen.standing, Reverse(seen.found.endpoint.host.contains(':')));
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        for one in all {
            match seen.get(&one.found.name) {
                Some(other) if rank(other) >= rank(&one) => {}
                _ => drop(seen.insert(one.found.name.clone(), one)),
            }
        }
        let standing = |name: &String| seen.get(name).map(|one| one.standing);
        let ready = seen.values().filter(|one| one.standing == Standing::Ready);
        let ready: BTreeMap<_, _> = ready.map(|one| (one.found.name.clone(), one.found.clone())).collect();
        let is_anybody_ready = !ready.is_empty();
        if is_anybody_ready {
            self.good = ready;
        } else {
            self.good.retain(|name, _| standing(name) != Some(Standing::Leaving));
        }
        let mut now = self.good.clone();
        // Who was never told of need not leave.
        for (name, found) in &self.told {
            if standing(name) == Some(Standing::Leaving) {
                now.insert(name.clone(), Found { is_leaving: true, ..found.clone() });
            }
        }
        let is_same = self.told == now;
        self.told = now;
        let told = || self.told.values().cloned().collect();
        match is_anybody_ready {
            true => Look::Ready(told()),
            false if is_same => Look::Kept,
            false => Look::Left(told()),
        }
    }

    /// A backend is known to have ended: it is not kept, even if nobody is left.
    #[cfg(any(feature = "k8s", test))]
    pub fn forget(&mut self, name: &str) {
        self.good.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pool::Endpoint;

    fn seen(name: &str, standing: Standing) -> Seen {
        let endpoint = Endpoint { host: "10.0.0.1".to_owned(), port: 11800 };
        Seen { found: Found { name: name.to_owned(), ..Found::at(endpoint) }, standing }
    }

    /// Names; a leaving one has a minus sign behind it.
    fn names(all: &[Found]) -> String {
        let name = |found: &Found| format!("{}{}", found.name, if found.is_leaving { "-" } else { "" });
        all.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    /// What is told when a source shows backends as `a b! c-`: ready, not ready, leaving.
    fn look(roster: &mut Roster, shown: &str) -> String {
        let all = shown.split_whitespace().map(|word| match (word.strip_suffix('!'), word.strip_suffix('-')) {
            (Some(name), _) => seen(name, Standing::Unready),
            (_, Some(name)) => seen(name, Standing::Leaving),
            _ => seen(word, Standing::Ready),
        });
        match roster.look(all) {
            Look::Ready(all) => names(&all),
            Look::Kept => "kept".to_owned(),
            Look::Left(all) => format!("left {}", names(&all)).trim_end().to_owned(),
        }
    }

    #[test]
    fn the_ready_ones_are_in_and_those_that_end_leave_before_they_are_gone() {
        let mut roster = Roster::default();
        assert_eq!(look(&mut roster, "b a c!"), "a b");
        assert_eq!(look(&mut roster, "a- b c"), "a- b c");
        assert_eq!(look(&mut roster, "b c"), "b c");
        assert_eq!(look(&mut roster, "b c d-"), "b c", "d was never in");
    }

    #[test]
    fn when_nobody_is_ready_the_last_good_ones_stay_but_not_those_that_end() {
        let mut roster = Roster::default();
        assert_eq!(look(&mut roster, "a! b!"), "kept");
        assert_eq!(look(&mut roster, "a b"), "a b");
        assert_eq!(look(&mut roster, "a! b!"), "kept");
        assert_eq!(look(&mut roster, ""), "kept");
        assert_eq!(look(&mut roster, "a- b!"), "left a- b");
        assert_eq!(look(&mut roster, "b!"), "left b");
        assert_eq!(look(&mut roster, "c"), "c");
    }

    #[test]
    fn what_has_ended_for_sure_is_not_kept() {
        let mut roster = Roster::default();
        look(&mut roster, "a b");
        roster.forget("a");
        assert_eq!(look(&mut roster, ""), "left b");
        roster.forget("b");
        assert_eq!(look(&mut roster, ""), "left");
    }

    #[test]
    fn shown_twice_is_there_once_the_better_of_the_two_and_by_ipv4() {
        let mut roster = Roster::default();
        assert_eq!(look(&mut roster, "a! a b b-"), "a b");
        let six = |standing| {
            let mut six = seen("a", standing);
            six.found.endpoint.host = "fd00::1".to_owned();
            six
        };
        for order in
            [[six(Standing::Ready), seen("a", Standing::Ready)], [seen("a", Standing::Ready), six(Standing::Ready)]]
        {
            let Look::Ready(told) = Roster::default().look(order) else { panic!("nobody is ready") };
            assert_eq!(told.iter().map(|found| found.endpoint.host.as_str()).collect::<Vec<_>>(), ["10.0.0.1"]);
        }
    }

    proptest! {
        #[test]
        fn once_somebody_was_in_somebody_stays_unless_all_have_ended(
            looks in prop::collection::vec(prop::collection::vec((0_u8..5, 0_u8..3), 0..8), 1..20),
        ) {
            let mut roster = Roster::default();
            let mut told: Vec<Found> = Vec::new();
            for look in looks {
                let all: Vec<Seen> = look.iter().map(|(name, standing)| {
                    let standing = [Standing::Unready, Standing::Leaving, Standing::Ready][usize::from(*standing)];
                    seen(&format!("b{name}"), standing)
                }).collect();
                let ready = |name: &str| all.iter().any(|one| one.found.name == name && one.standing == Standing::Ready);
                let leaves = |name: &str| all.iter().any(|one| one.found.name == name && one.standing == Standing::Leaving);
                let before = told.clone();
                match roster.look(all.clone()) {
                    Look::Ready(now) | Look::Left(now) => told = now,
                    Look::Kept => {}
                }
                let is_in = |found: &&Found| !found.is_leaving;
                if all.iter().any(|one| one.standing == Standing::Ready) {
                    prop_assert!(told.iter().filter(is_in).all(|found| ready(&found.name)));
                    prop_assert!(all.iter().filter(|one| one.standing == Standing::Ready)
                        .all(|one| told.iter().filter(is_in).any(|found| found.name == one.found.name)));
                } else {
                    prop_assert!(before.iter().filter(is_in).filter(|found| !leaves(&found.name))
                        .all(|found| told.contains(found)));
                }
                prop_assert!(told.iter().filter(|found| found.is_leaving).all(|found| leaves(&found.name)));
            }
        }
    }
}
