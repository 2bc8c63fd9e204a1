//! The table of settings held against itself and the flows.

use super::*;
use crate::message::flow::Flow;

#[test]
fn every_path_is_listed_once_and_under_a_listed_group() {
    for (index, key) in KEYS.iter().enumerate() {
        assert!(!KEYS[..index].iter().any(|other| other.path == key.path), "{}", key.path);
        if let Some((parent, _)) = key.path.rsplit_once('.') {
            assert!(KEYS[..index].iter().any(|other| other.path == parent), "{}", key.path);
        }
    }
}

#[test]
fn the_flows_a_method_may_name_are_all_flows() {
    assert_eq!(FLOW.len(), Flow::ALL.len());
    assert!(Flow::ALL.iter().all(|flow| FLOW.contains(&flow.name())));
}
