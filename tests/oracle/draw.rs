//! Chance, from one seed: every case can be said again by saying its seed.

use std::collections::BTreeSet;

use switchyard::testkit::methods::{Method, MethodId};

use crate::found::{Found, NOT_YET};

/// Cases a method gets unless `ORACLE_CASES` says otherwise.
const CASES: u64 = 3;

/// The seeds to try for a test called `name`, the same in every run: as many as `ORACLE_CASES` says, from `ORACLE_SEED`
/// on if that is set; without a number of cases that one alone.
pub fn seeds(name: &str) -> Vec<u64> {
    let (seed, cases) = (variable("ORACLE_SEED"), variable("ORACLE_CASES"));
    // FNV-1a: tests do not share their seeds.
    let of_name = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let first = seed.unwrap_or_else(|| name.bytes().fold(0xcbf2_9ce4_8422_2325, of_name));
    let cases = cases.unwrap_or(if seed.is_some() { 1 } else { CASES });
    (0..cases).map(|case| first.wrapping_add(case)).collect()
}

/// A number, decimal or `0x`.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Says the seed of a case that fails.
pub struct Case<'a> {
    pub name: &'a str,
    pub seed: u64,
}

/// What a generator has done at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A call with compressed and plain messages.
    Gzip,
    /// A message of no bytes.
    Tiny,
    /// A message of a quarter of a mebibyte to three.
    Huge,
    UnknownFields,
    /// Fields in another order than their numbers'.
    AnyOrder,
    /// A singular field said twice.
    SaidTwice,
    /// A call whose first message lacks what later ones rely on.
    LateContext,
    /// A call that changes what it says once.
    ChangedContext,
    /// A call that ends while others go on.
    EarlyHalfClose,
    Reset,
    /// A stream without a message.
    Silent,
    /// Several calls on one connection.
    SharedConnection,
    /// Several messages in one write.
    Burst,
}

/// One case's source of chance.
pub struct Draw {
    rng: fastrand::Rng,
    /// Told apart from every other case's.
    prefix: String,
    next_tag: u64,
    huge_left: u32,
    /// Bytes of padding.
    padding_max: usize,
    /// Whether agents do what no real gateway is asked to do right yet, too.
    fearless: bool,
    marks: BTreeSet<Mark>,
    /// Whether calls say who they are at once and stay with it, as real agents do.
    pub steady: bool,
}

impl Case<'_> {
    /// The case's chance.
    pub fn draw(&self) -> Draw {
        Draw::new(self.seed)
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}: to see it again: ORACLE_SEED={:#x} cargo test --test oracle {}",
                self.name, self.seed, self.name
            );
        }
    }
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        let prefix = format!("{:x}", seed & 0xffff);
        let mut rng = fastrand::Rng::with_seed(seed);
        // Unoptimised, megabytes cost more than all the rest.
        let huge_left = u32::from(rng.u32(..3) == 0);
        let (marks, steady) = (BTreeSet::new(), false);
        Self { rng, prefix, next_tag: 0, huge_left, padding_max: 3 << 20, fearless: false, marks, steady }
    }

    /// The same, of few words.
    pub fn brief(seed: u64) -> Self {
        Self { huge_left: 0, padding_max: 100, ..Self::new(seed) }
    }

    /// The same, of agents that do everything.
    pub fn fearless(seed: u64) -> Self {
        Self { fearless: true, ..Self::brief(seed) }
    }

    /// Whether agents do this.
    pub fn may(&self, what: Found) -> bool {
        self.fearless || !NOT_YET.contains(&what)
    }

    pub fn is_brief(&self) -> bool {
        self.padding_max < 1 << 10
    }

    /// True so many times of a hundred.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    /// Below `end`.
    pub fn number(&mut self, end: u64) -> u64 {
        self.rng.u64(..end)
    }

    /// From `from` to `to`, both included.
    pub fn between(&mut self, from: usize, to: usize) -> usize {
        self.rng.usize(from..=to)
    }

    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.rng.usize(..all.len())].clone()
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        self.rng.shuffle(all);
    }

    /// A name that no other thing of any case has.
    pub fn tag(&mut self, what: &str) -> String {
        self.next_tag += 1;
        format!("{what}.{}-{}", self.prefix, self.next_tag)
    }

    /// Text of any length, mostly short.
    pub fn padding(&mut self) -> String {
        let length = match self.number(100) {
            0..30 => 0,
            30..80 => self.between(1, 200),
            80..94 => self.between(200, 5_000),
            _ if self.huge_left > 0 => {
                self.huge_left -= 1;
                self.mark(Mark::Huge);
                self.between(256 << 10, 3 << 20)
            }
            _ => self.between(5_000, 70_000),
        };
        let length = length.min(self.padding_max);
        // Compressible, but not to nothing.
        let mut padding = String::with_capacity(length);
        while padding.len() < length {
            padding.push_str(["oak ", "ash ", "elm ", "yew "][self.rng.usize(..4)]);
        }
        padding.truncate(length);
        padding
    }

    pub fn mark(&mut self, mark: Mark) {
        self.marks.insert(mark);
    }

    pub fn marks(&self) -> &BTreeSet<Mark> {
        &self.marks
    }
}

/// The method of a path that the test kit knows.
pub fn method(path: &str) -> &'static Method {
    MethodId::find(path).unwrap_or_else(|| panic!("{path} is not in the test kit's table")).method()
}
