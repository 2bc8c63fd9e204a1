//! Replays the fuzz targets' corpus, and some thousand mutations of it that are the same in every run.

use std::panic::catch_unwind;
use std::path::Path;

#[path = "../fuzz/src/checks.rs"]
mod checks;

/// Runs `check` on every seed of `target`, on `more` inputs and on `mutations` of all of them.
fn replay(target: &str, check: fn(&[u8]), more: &[&[u8]], mutations: usize) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let found = std::fs::read_dir(&directory).expect("the corpus is part of the repository");
    let mut files: Vec<_> = found.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "seed"));
    assert!(!files.is_empty(), "no seeds in {}", directory.display());
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("a seed can be read")).collect();
    seeds.extend(more.iter().map(|seed| seed.to_vec()));
    seeds.iter().for_each(|seed| held(target, check, seed));
    let mut random = fastrand::Rng::with_seed(0x5357_4954);
    for _ in 0..mutations {
        let seed = &seeds[random.usize(..seeds.len())];
        let other = &seeds[random.usize(..seeds.len())];
        held(target, check, &mutated(seed, other, &mut random));
    }
}

fn held(target: &str, check: fn(&[u8]), input: &[u8]) {
    if catch_unwind(|| check(input)).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("`{target}` does not hold for {hex}; keep it as fuzz/corpus/{target}/*.seed once it does");
    }
}

/// One to four changes of a seed, as a fuzzer makes them.
fn mutated(seed: &[u8], other: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    const TELLING: [u8; 8] = [0, 1, 5, 0x0a, 0x12, 0x7f, 0x80, 0xff];
    let mut input = seed.to_vec();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=input.len());
        let to = at + random.usize(..=(input.len() - at).min(16));
        match random.u8(..6) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 if at < input.len() => input[at] = TELLING[random.usize(..TELLING.len())],
            2 => input.insert(at, random.u8(..)),
            3 => drop(input.drain(at..to)),
            4 => {
                let piece = input[at..to].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let from = random.usize(..=other.len());
                let piece = other[from..other.len().min(from + 16)].to_vec();
                input.splice(at..to, piece);
            }
        }
    }
    input
}

#[test]
fn frames_hold_for_the_corpus() {
    replay("frames", checks::frames, &[], 8_000);
}

#[test]
fn the_field_scan_holds_for_the_corpus() {
    replay("field_scan", checks::field_scan, &[], 8_000);
}

#[test]
fn openings_hold_for_the_corpus() {
    replay("opening", checks::opening, &[], 8_000);
}

#[test]
fn batches_hold_for_the_corpus() {
    replay("records", checks::records, &[], 20_000);
}

#[test]
fn http_2_holds_for_the_corpus() {
    replay("http2_server", checks::http2_server, &[], 20_000);
    replay("http2_client", checks::http2_client, &[], 20_000);
    replay("hpack", checks::hpack, &[], 20_000);
}

#[test]
fn inflating_holds_for_the_corpus() {
    replay("inflate", checks::inflate, &[], 4_000);
}

#[test]
fn the_config_holds_for_the_corpus() {
    replay("config", checks::config, &[include_bytes!("../config/switchyard.yaml")], 2_000);
}
