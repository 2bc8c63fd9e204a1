//! Holds what collectors understood against what they should have: nothing missing, nothing foreign, nothing twice.

use switchyard::testkit::attribution::{Attributed, Attribution};

/// Differences shown; the number of all is told.
const SHOWN_MAX: usize = 12;

/// What is wrong with `found`, item by item; empty when it is exactly `expected`.
pub fn differences(expected: &Attributed, found: &Attributed) -> Vec<String> {
    let mut wrong = Vec::new();
    for (item, times) in expected {
        let there = found.get(item).copied().unwrap_or_default();
        if there != *times {
            let clue = if there == 0 { clue(item, expected, found) } else { String::new() };
            wrong.push(format!("{there} times instead of {times}: {}{clue}", show(item)));
        }
    }
    wrong.extend(foreign(expected, found));
    wrong
}

/// What is wrong with `found`, when all of `required` must be there and nothing but `allowed` may, how often ever.
pub fn shortcomings(required: &Attributed, allowed: &Attributed, found: &Attributed) -> Vec<String> {
    let missing = required.keys().filter(|item| !found.contains_key(*item));
    let missing = missing.map(|item| format!("missing: {}{}", show(item), clue(item, allowed, found)));
    missing.chain(foreign(allowed, found)).collect()
}

/// Several collectors' items as one's.
pub fn sum(all: impl IntoIterator<Item = Attributed>) -> Attributed {
    let mut sum = Attributed::new();
    for (item, times) in all.into_iter().flatten() {
        *sum.entry(item).or_default() += times;
    }
    sum
}

/// Fails, saying what is wrong.
#[track_caller]
pub fn assert_none(wrong: &[String], what: &str) {
    let shown = wrong.iter().take(SHOWN_MAX).map(|difference| format!("\n  {difference}")).collect::<String>();
    assert!(wrong.is_empty(), "{what}: {} items are wrong{shown}", wrong.len());
}

fn foreign<'a>(expected: &'a Attributed, found: &'a Attributed) -> impl Iterator<Item = String> + 'a {
    let foreign = found.iter().filter(|(item, _)| !expected.contains_key(*item));
    foreign.map(|(item, times)| format!("{times} times though nobody sent it so: {}", show(item)))
}

/// What became of a missing item: the same words under another name, or in another context.
fn clue(missing: &Attribution, expected: &Attributed, found: &Attributed) -> String {
    let is_it =
        |item: &&Attribution| item.group == missing.group && item.item == missing.item && !expected.contains_key(*item);
    match found.keys().find(is_it) {
        Some(moved) if moved.source != missing.source => format!("; it was filed under {:?}", moved.source),
        Some(moved) => format!("; its context became {:016x}", moved.context),
        None => String::new(),
    }
}

fn show(item: &Attribution) -> String {
    let Attribution { group, source, context, item } = item;
    format!("{item} of {source:?} in context {context:016x} ({group})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(source: &str, context: u64, name: &str) -> Attribution {
        Attribution { group: "/logs", source: source.to_owned(), context, item: name.to_owned() }
    }

    fn attributed(items: &[(&str, u64, &str)]) -> Attributed {
        sum(items.iter().map(|(source, context, name)| Attributed::from([(item(source, *context, name), 1)])))
    }

    const SENT: [(&str, u64, &str); 3] = [("shop", 0, "a"), ("shop", 0, "b"), ("bank", 7, "c")];

    fn wrong(found: &[(&str, u64, &str)]) -> Vec<String> {
        differences(&attributed(&SENT), &attributed(found))
    }

    #[test]
    fn the_same_items_in_any_order_are_right() {
        let [a, b, c] = SENT;
        assert_eq!(wrong(&[c, a, b]), [""; 0]);
        assert_eq!(differences(&attributed(&[]), &attributed(&[])), [""; 0]);
    }

    #[test]
    fn a_lost_item_is_noticed() {
        assert_eq!(wrong(&SENT[1..]), ["0 times instead of 1: a of \"shop\" in context 0000000000000000 (/logs)"]);
    }

    #[test]
    fn an_item_that_came_twice_is_noticed() {
        let [a, b, c] = SENT;
        assert_eq!(wrong(&[a, b, c, c]), ["2 times instead of 1: c of \"bank\" in context 0000000000000007 (/logs)"]);
    }

    #[test]
    fn an_item_under_another_s_name_is_noticed_and_followed() {
        let [a, b, _] = SENT;
        let wrong = wrong(&[a, b, ("shop", 7, "c")]);
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].ends_with("; it was filed under \"shop\""), "{wrong:?}");
        assert!(wrong[1].starts_with("1 times though nobody sent it so: c of \"shop\""), "{wrong:?}");
    }

    #[test]
    fn an_item_in_another_context_is_noticed_and_followed() {
        let [a, b, _] = SENT;
        let wrong = wrong(&[a, b, ("bank", 8, "c")]);
        assert!(wrong[0].ends_with("; its context became 0000000000000008"), "{wrong:?}");
    }

    #[test]
    fn two_items_that_changed_places_are_both_noticed() {
        assert_eq!(wrong(&[("bank", 7, "a"), ("shop", 0, "b"), ("shop", 0, "c")]).len(), 4);
    }

    #[test]
    fn data_of_another_kind_is_foreign() {
        let mut found = attributed(&SENT);
        found.insert(Attribution { group: "/events", ..item("shop", 0, "a") }, 1);
        assert_eq!(differences(&attributed(&SENT), &found).len(), 1);
    }

    #[test]
    fn at_least_once_lets_items_come_again_but_neither_be_missing_nor_foreign() {
        let [a, b, c] = SENT;
        let (required, allowed) = (attributed(&[a, b]), attributed(&SENT));
        assert_eq!(shortcomings(&required, &allowed, &attributed(&[a, b, b])), [""; 0]);
        assert_eq!(shortcomings(&required, &allowed, &attributed(&[a, b, c, c])), [""; 0]);
        assert_eq!(shortcomings(&required, &allowed, &attributed(&[a, c])).len(), 1);
        assert_eq!(shortcomings(&required, &allowed, &attributed(&[a, b, ("bank", 0, "c")])).len(), 1);
    }
}
