//! Keeps the house in order: the floors of ARCHITECTURE.md, the size of files, their first sentences and their names.
//!
//! It reads src/ as text. Every rule is also tried on small made-up sources, so that a rule that cannot fail is found.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Modules on a floor below may be used, modules on the same floor and above may not.
const FLOORS: [(&str, u8); 14] = [
    ("metrics", 0),
    ("proto", 0),
    ("message", 1),
    ("wire", 2),
    ("route", 3),
    ("pool", 3),
    ("listener", 4),
    ("discovery", 4),
    ("admin", 4),
    ("config", 5),
    ("gateway", 6),
    ("cli", 7),
    // The two crate roots see everything.
    ("lib", 8),
    ("main", 8),
];
/// Outside the house: only `cli` may use it, and it may use these.
const TESTKIT: &str = "testkit";
const TESTKIT_MAY_USE: [&str; 3] = ["message", "wire", "proto"];
const LINES_MAX: usize = 400;
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "manager", "managers", "inner", "helper", "helpers"];

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files_below(&root.join("src"), &mut files);
    assert!(files.len() > 30, "only {} files found in src/: this test looks in the wrong place", files.len());
    let mut report = String::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        let source = std::fs::read_to_string(&file).unwrap();
        for complaint in complaints(&path, &source) {
            writeln!(report, "{complaint}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

fn rust_files_below(directory: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files_below(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

// === the rules ===

/// Everything that is wrong with one file, each with its mend.
fn complaints(path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code = without_comments_and_literals(source);
    name(path, &code, &mut found);
    size(path, source, &mut found);
    first_sentence(path, source, &mut found);
    floors(path, &code, &mut found);
    h2(path, &code, &mut found);
    found
}

fn name(path: &str, code: &str, found: &mut Vec<String>) {
    let parts: Vec<_> = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect();
    if parts.last() == Some(&"mod") {
        let parent = path.trim_end_matches("/mod.rs");
        found.push(format!("{path}: no mod.rs here: call it {parent}.rs"));
    }
    for part in &parts {
        if EMPTY_NAMES.contains(part) {
            found.push(format!("{path}: `{part}` says nothing: name it after what it holds"));
        }
    }
    for (line, text) in lines(code) {
        let words: Vec<_> = words(text).collect();
        for pair in words.windows(2) {
            let (keyword, name) = (pair[0], pair[1].to_lowercase());
            let is_named = matches!(keyword, "mod" | "struct" | "enum" | "trait" | "type" | "union");
            if is_named && EMPTY_NAMES.iter().any(|empty| name == *empty || name.ends_with("manager")) {
                found.push(format!("{path}:{line}: `{}` says nothing: name it after what it does", pair[1]));
            }
        }
    }
}

fn size(path: &str, source: &str, found: &mut Vec<String>) {
    let count = source.lines().count();
    if count > LINES_MAX {
        found.push(format!(
            "{path}: {count} lines, {LINES_MAX} are allowed: move one idea, or the tests, into a file of its own"
        ));
    }
}

fn first_sentence(path: &str, source: &str, found: &mut Vec<String>) {
    let paragraph: Vec<_> = source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let sentence = paragraph.join(" ");
    if paragraph.is_empty() {
        found.push(format!("{path}:1: the first line must be `//! ` and one sentence that says what the file is for"));
    } else if !sentence.contains(' ') || !sentence.ends_with('.') {
        found.push(format!("{path}:1: the first paragraph must be a sentence that ends in a full stop"));
    }
}

fn floors(path: &str, code: &str, found: &mut Vec<String>) {
    let here = module_of(path);
    if floor_of(here).is_none() && here != TESTKIT {
        found.push(format!("{path}: `{here}` is on no floor: put it on one in tests/house.rs and ARCHITECTURE.md"));
        return;
    }
    for (line, there) in uses(path, code) {
        if let Err(mend) = may_use(here, &there) {
            found.push(format!("{path}:{line}: `{here}` uses `{there}`: {mend}"));
        }
    }
    for (line, text) in lines(code) {
        if text.contains("super::super::") {
            found.push(format!(
                "{path}:{line}: `super::super::` hides which floor is meant: write `crate::` and the path"
            ));
        }
    }
}

fn h2(path: &str, code: &str, found: &mut Vec<String>) {
    if matches!(module_of(path), "wire" | TESTKIT) {
        return;
    }
    for (line, text) in lines(code) {
        // `h2` at the head of a path; a variable or field of that name is nobody's business.
        let is_path = starts_of(text, "h2::").next().is_some()
            || ["use h2;", "use h2 as", "extern crate h2"].iter().any(|form| text.contains(form));
        if is_path {
            found.push(format!(
                "{path}:{line}: only `wire` names h2: say it in words of src/wire, add one there if need be"
            ));
        }
    }
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn may_use(here: &str, there: &str) -> Result<(), String> {
    if here == there {
        return Ok(());
    }
    if here == TESTKIT {
        return if TESTKIT_MAY_USE.contains(&there) {
            Ok(())
        } else {
            Err(format!("testkit stands outside the house and may use only {}", TESTKIT_MAY_USE.join(", ")))
        };
    }
    let floor = floor_of(here).unwrap_or_default();
    if there == TESTKIT {
        return if floor >= 7 {
            Ok(())
        } else {
            Err("only `cli` may; a test that needs it belongs in tests/".to_owned())
        };
    }
    match floor_of(there) {
        None => Err("no module of that name has a floor: put it on one in tests/house.rs".to_owned()),
        Some(other) if other < floor => Ok(()),
        Some(other) if other == floor => {
            Err(format!("both live on floor {floor} and never meet: let them meet above, or move what they share down"))
        }
        Some(other) => Err(format!(
            "that is up, from floor {floor} to {other}: pass the value in from above, or move what is needed down"
        )),
    }
}

// === reading source ===

/// The top-level module a file belongs to.
fn module_of(path: &str) -> &str {
    let path = path.trim_start_matches("src/");
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// The top-level modules that `code` names, with the lines.
fn uses(path: &str, code: &str) -> Vec<(usize, String)> {
    // In a file like src/pool.rs, `super` outside any inline module is the crate.
    let is_top = path.matches('/').count() == 1;
    let mut heads = vec!["crate::"];
    if module_of(path) == "main" {
        heads.push("switchyard::");
    }
    let mut found = Vec::new();
    for head in heads {
        for at in starts_of(code, head) {
            let line = code[..at].matches('\n').count() + 1;
            found.extend(first_names(&code[at + head.len()..]).into_iter().map(|name| (line, name)));
        }
    }
    if is_top {
        for (line, text) in lines(code) {
            for form in ["use super::", "pub use super::"] {
                if let Some(rest) = text.strip_prefix(form) {
                    found.extend(first_names(rest).into_iter().map(|name| (line, name)));
                }
            }
        }
    }
    // Macros and types of the crate root itself start no path into a module.
    found.retain(|(_, name)| name.starts_with(|first: char| first.is_ascii_lowercase() || first == '*'));
    found
}

/// The first word of a path, or of each path in a group at its head.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        return vec![if end == 0 { "*".to_owned() } else { rest[..end].to_owned() }];
    };
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            _ if start && is_word(c) => {
                let word = &group[at..];
                names.push(word[..word.find(|c: char| !is_word(c)).unwrap_or(word.len())].to_owned());
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn lines(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().map(|(index, text)| (index + 1, text))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `head` starts a path: not in the middle of a word, nor behind another path segment.
fn starts_of<'a>(code: &'a str, head: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(head).map(|(at, _)| at).filter(|at| {
        let before = code[..*at].trim_end_matches("::").chars().next_back();
        let is_absolute = code[..*at].ends_with("::") && !before.is_some_and(is_word);
        is_absolute || (!code[..*at].ends_with("::") && !before.is_some_and(is_word))
    })
}

/// The source with comments, strings and character literals blanked; lines stay where they are.
fn without_comments_and_literals(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at).unwrap_or(at);
        for c in &chars[at..end] {
            code.push(if *c == '\n' { '\n' } else { ' ' });
        }
        if end == at {
            code.push(chars[at]);
        }
        at = end.max(at + 1);
    }
    code
}

fn literal_or_comment_end(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let find = |from: usize, what: &[char]| {
        rest[from..].windows(what.len()).position(|window| window == what).map(|found| from + found)
    };
    let end = match rest {
        ['/', '/', ..] => find(2, &['\n']).unwrap_or(rest.len()),
        ['/', '*', ..] => find(2, &['*', '/']).map_or(rest.len(), |end| end + 2),
        ['"', ..] => quoted(rest, '"')?,
        ['r', '"' | '#', ..] if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => {
            let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
            // `r#type` is an identifier.
            if rest.get(1 + hashes) != Some(&'"') {
                return None;
            }
            let mut close = vec!['"'];
            close.extend(std::iter::repeat_n('#', hashes));
            find(2 + hashes, &close).map_or(rest.len(), |end| end + close.len())
        }
        // A lifetime has no closing quote two characters on.
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\'')?,
        _ => return None,
    };
    Some(at + end)
}

/// One past the closing quote of the literal that `rest` begins with.
fn quoted(rest: &[char], quote: char) -> Option<usize> {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(rest.len())
}

// === the rules can fail ===

#[track_caller]
fn assert_fails(path: &str, body: &str, expected: &str) {
    let found = complaints(path, &format!("//! Made up for a test.\n{body}\n"));
    assert!(found.len() == 1 && found[0].contains(expected), "{path}: {body}\n{found:#?}");
}

#[track_caller]
fn assert_passes(path: &str, body: &str) {
    let found = complaints(path, &format!("//! Made up for a test.\n{body}\n"));
    assert!(found.is_empty(), "{path}: {body}\n{found:#?}");
}

#[test]
fn down_is_allowed() {
    assert_passes("src/listener/call.rs", "use crate::pool::Pool;\nuse crate::route::Routes;");
    assert_passes("src/pool.rs", "use crate::wire::client;\nmod lane;\nuse self::lane::Lane;\nuse crate::pool::trip;");
    assert_passes("src/gateway.rs", "use crate::{admin, config::{self, Plan}, metrics};");
    assert_passes("src/main.rs", "fn main() { switchyard::cli::main() }");
    assert_passes("src/cli/demo.rs", "use crate::testkit::agents;");
    assert_passes("src/testkit/agents.rs", "use crate::{message, proto, wire};\nuse h2::client;");
    assert_passes("src/pool/lane.rs", "pub(crate) fn f() {}\nuse super::trip;");
    assert_passes("src/pool.rs", "mod tests {\n    use super::*;\n}");
}

#[test]
fn up_and_sideways_are_not() {
    assert_fails(
        "src/message/frames.rs",
        "use crate::wire::grpc;",
        ":2: `message` uses `wire`: that is up, from floor 1 to 2",
    );
    assert_fails("src/route.rs", "use crate::pool::Pool;", "`route` uses `pool`: both live on floor 3");
    assert_fails("src/pool/lane.rs", "fn f() { crate::route::key() }", "`pool` uses `route`");
    assert_fails("src/admin.rs", "use crate::listener::Settings;", "`admin` uses `listener`");
    assert_fails("src/config.rs", "use crate::{pool, gateway};", "`config` uses `gateway`");
    assert_fails("src/config.rs", "use crate::{\n    pool::{self, gateway},\n    cli::run,\n};", "`config` uses `cli`");
    assert_fails("src/metrics.rs", "use super::message;", "`metrics` uses `message`");
    assert_fails("src/proto.rs", "use crate::metrics::Counter;", "`proto` uses `metrics`");
    assert_fails("src/pool/lane.rs", "use super::super::route;", "`super::super::` hides");
    assert_fails("src/pool.rs", "use crate::*;", "`pool` uses `*`");
}

#[test]
fn the_testkit_stands_outside() {
    assert_fails("src/pool.rs", "use crate::testkit::collector;", "only `cli` may");
    assert_fails(
        "src/gateway.rs",
        "#[cfg(test)]\nmod tests {\n    use crate::testkit;\n}",
        ":4: `gateway` uses `testkit`",
    );
    assert_fails("src/testkit.rs", "use crate::pool;", "outside the house and may use only message, wire, proto");
}

#[test]
fn a_new_module_needs_a_floor() {
    assert_fails("src/cellar.rs", "", "`cellar` is on no floor");
    assert_fails("src/gateway.rs", "use crate::cellar::wine;", "no module of that name has a floor");
}

#[test]
fn only_wire_names_h2() {
    assert_fails("src/pool/channel.rs", "fn f(error: h2::Error) {}", "only `wire` names h2");
    assert_fails("src/listener.rs", "use h2::server;", "only `wire` names h2");
    assert_fails("src/listener.rs", "use ::h2::server;", "only `wire` names h2");
    assert_fails("src/listener.rs", "use h2 as http2;", "only `wire` names h2");
    assert_passes("src/wire/client.rs", "use h2::client;");
    assert_passes("src/pool.rs", "use crate::wire::with_h2::open;\nfn f(h2: u8) { wire::h2::go(h2) }");
}

#[test]
fn comments_and_literals_are_not_code() {
    assert_passes(
        "src/message.rs",
        "/// See [`crate::gateway`]. It's here.\nfn f() {} // crate::cli\n/* crate::cli */",
    );
    assert_passes("src/message.rs", "const A: (&str, &str, char) = (\"\\\"crate::cli\", r#\"\"crate::cli\"#, '\"');");
    assert_fails("src/message.rs", "fn f<'a>(a: &'a str) -> char { crate::cli::f('\"') }", ":2: `message` uses `cli`");
    assert_fails("src/message.rs", "const A: &str = \"a\nb\";\nuse crate::cli;", ":4: `message` uses `cli`");
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    assert_passes("src/pool.rs", &"\n".repeat(LINES_MAX - 2));
    assert_fails("src/pool.rs", &"\n".repeat(LINES_MAX), "402 lines, 400 are allowed");
    let first = |source: &str| complaints("src/pool.rs", source);
    assert!(first("//! One sentence that\n//! goes on.\n//!\n//! More").is_empty());
    for bad in ["", "use std::io;\n", "\n//! Late sentence.\n", "// Not for docs.\n"] {
        assert!(first(bad)[0].contains("the first line must be"), "{bad:?}");
    }
    for bad in ["//! No full stop\n", "//! No full stop\n//!\n//! Here.\n", "//! Word.\n"] {
        assert!(first(bad)[0].contains("ends in a full stop"), "{bad:?}");
    }
}

#[test]
fn names_say_something() {
    assert_fails("src/pool/mod.rs", "", "no mod.rs here: call it src/pool.rs");
    assert_fails("src/pool/utils.rs", "", "`utils` says nothing");
    assert_fails("src/pool/common/lane.rs", "", "`common` says nothing");
    assert_fails("src/pool.rs", "mod inner {}", ":2: `inner` says nothing");
    assert_fails("src/pool.rs", "pub struct LaneManager;", "`LaneManager` says nothing");
    assert_fails("src/pool.rs", "struct Inner(u8);", "`Inner` says nothing");
    assert_passes("src/pool.rs", "fn f(inner: u8) -> u8 { inner }");
}
