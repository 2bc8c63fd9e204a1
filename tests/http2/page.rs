//! docs/http2.md names every test of the RFCs' sections, and no test that does not exist.

use std::collections::BTreeSet;
use std::path::Path;

/// A word in backticks this long is the name of a test.
const NAME_BYTES_MIN: usize = 20;

fn rust_files_below(directory: &Path, sources: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files_below(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn functions(sources: &[String]) -> BTreeSet<&str> {
    let names = sources.iter().flat_map(|source| source.lines()).filter_map(|line| line.split_once("fn "));
    names.filter_map(|(_, rest)| rest.split(['(', '<']).next()).collect()
}

#[test]
fn the_page_names_every_section_s_test_and_only_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/http2.md")).unwrap();
    let is_name = |word: &&str| {
        word.len() >= NAME_BYTES_MIN
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let named: BTreeSet<_> = page.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() > 100, "only {} names were found: this test reads the page wrongly", named.len());
    let mut sources = Vec::new();
    for directory in ["src", "tests"] {
        rust_files_below(&root.join(directory), &mut sources);
    }
    let there = functions(&sources);
    let made_up: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
    let unnamed: Vec<_> = there.iter().filter(|name| name.starts_with("section_") && !named.contains(*name)).collect();
    assert!(made_up.is_empty() && unnamed.is_empty(), "not there: {made_up:?}; not named: {unnamed:?}");
}
