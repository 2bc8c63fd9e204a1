//! The picture: figures in, lines of at most 80 columns out. Nothing here knows of a terminal.

use std::time::Duration;

use super::figures::{BackendRow, Figures, Law};

/// Columns a line may have.
pub const COLUMNS: usize = 80;
/// Notes that are shown, the latest.
pub const NOTES_MAX: usize = 3;

/// Columns of a bar that stands for everything.
const BAR_COLUMNS: usize = 24;

/// How a piece of text looks where colours are to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As it is.
    Plain,
    /// Titles and what to look at.
    Bold,
    /// What is only there to explain.
    Dim,
    /// All is well.
    Green,
    /// Something changes.
    Yellow,
    /// Something is down or lost.
    Red,
}

/// One line: pieces of text with their paint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(Vec<(Paint, String)>);

/// What does not change while the demo runs.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// Where agents connect.
    pub agents: String,
    /// The admin page.
    pub admin: String,
    /// How many agents there are.
    pub agents_total: usize,
    /// Messages per second they are to send together.
    pub rate: u64,
    /// Whether keys are read.
    pub has_keys: bool,
    /// Whether block characters can be shown.
    pub has_blocks: bool,
}

/// Something that happened, and when.
#[derive(Debug, Clone)]
pub struct Note {
    /// After the start.
    pub at: Duration,
    /// What, in one line.
    pub text: String,
}

// === impl Line ===

impl Line {
    /// A line of one piece.
    pub fn of(paint: Paint, text: impl Into<String>) -> Self {
        Self::default().and(paint, text)
    }

    /// The line with one more piece; what goes beyond [`COLUMNS`] is cut off, and what could move a cursor replaced.
    pub fn and(mut self, paint: Paint, text: impl Into<String>) -> Self {
        let room = COLUMNS.saturating_sub(self.columns());
        let text: String = text.into();
        self.0.push((paint, text.chars().take(room).map(|it| if it.is_control() { '·' } else { it }).collect()));
        self
    }

    /// The pieces.
    pub fn pieces(&self) -> &[(Paint, String)] {
        &self.0
    }

    /// The text alone.
    pub fn plain(&self) -> String {
        let text: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().to_owned()
    }

    /// How wide it is.
    pub fn columns(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }
}

// === the table ===

/// The whole picture.
pub fn table(scene: &Scene, figures: &Figures, notes: &[Note]) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    lines.extend(header(scene));
    lines.push(Line::default());
    lines.push(Line::of(
        Paint::Dim,
        format!("  {:<12}{:>9}{:>8}{:>12}   {}", "backend", "msg/s", "share", "in flight", "health"),
    ));
    lines.extend(figures.backends.iter().map(|row| backend(scene, row)));
    lines.push(Line::default());
    lines.extend(law(figures));
    lines.push(Line::default());
    let shown = &notes[notes.len().saturating_sub(NOTES_MAX)..];
    lines.extend(shown.iter().map(note));
    // One more, so that the keys stand apart.
    lines.resize_with(lines.len() + NOTES_MAX - shown.len() + 1, Line::default);
    lines.push(keys(scene));
    lines
}

/// Where everything is: the lines that stay.
pub fn header(scene: &Scene) -> Vec<Line> {
    vec![
        Line::of(Paint::Bold, "  Switchyard")
            .and(Paint::Plain, format!("   agents {}   admin http://{}/", scene.agents, scene.admin)),
        Line::of(
            Paint::Dim,
            format!(
                "  {} agents on {0} streams that never end, {}/s; one sends half of it all",
                scene.agents_total,
                grouped(scene.rate)
            ),
        ),
    ]
}

fn backend(scene: &Scene, row: &BackendRow) -> Line {
    let (is_up, share) = (row.state == "up", row.share.clamp(0.0, 1.0));
    let paint = if is_up { Paint::Green } else { Paint::Red };
    let state = if row.state.is_empty() { "?" } else { &row.state };
    Line::of(Paint::Plain, format!("  {:<12.12}", row.name))
        .and(Paint::Bold, format!("{:>9}", short(row.per_second)))
        .and(Paint::Plain, format!("{:>6.0} %{:>12}   ", share * 100.0, short(row.in_flight)))
        .and(paint, format!("{state:<12.12} "))
        .and(paint, bar(share, scene.has_blocks))
}

/// The law twice, per second and in all, each a sum that can be checked by eye.
fn law(figures: &Figures) -> Vec<Line> {
    let (rate, total) = (&figures.per_second, &figures.in_all);
    let row = |paint, name: &str, rate: String, total: String| {
        Line::of(paint, format!("  {name:<13}")).and(paint, format!("{rate:>12}{total:>16}"))
    };
    let lost = if total.lost > 0 { Paint::Red } else { Paint::Plain };
    let again = if figures.possible_duplicates > 0 { Paint::Yellow } else { Paint::Plain };
    vec![
        Line::of(Paint::Dim, format!("  {:<13}{:>12}{:>16}", "messages", "per second", "in all")),
        row(Paint::Bold, "  received", grouped(rate.received), grouped(total.received)),
        row(Paint::Plain, "= delivered", grouped(rate.delivered), grouped(total.delivered)),
        row(Paint::Plain, "+ held", signed(rate.held), grouped(total.held.unsigned_abs())),
        row(lost, "+ lost", grouped(rate.lost), grouped(total.lost)),
        Line::of(again, format!("    {:<20}{:>19}", "possible duplicates", grouped(figures.possible_duplicates))),
    ]
}

fn note(note: &Note) -> Line {
    Line::of(Paint::Dim, format!("  {:>6.1} s  ", note.at.as_secs_f64())).and(Paint::Plain, note.text.clone())
}

fn keys(scene: &Scene) -> Line {
    if !scene.has_keys {
        return Line::of(Paint::Plain, "  Ctrl-C ends it");
    }
    Line::of(Paint::Bold, "  k")
        .and(Paint::Plain, " kill a collector   ")
        .and(Paint::Bold, "r")
        .and(Paint::Plain, " bring it back   ")
        .and(Paint::Bold, "q")
        .and(Paint::Plain, " quit")
}

// === one line a second ===

/// The same in one line, for files and pipes.
pub fn line(at: Duration, figures: &Figures) -> String {
    let Law { received, delivered, held, lost } = figures.in_all;
    let rates: Vec<String> = figures.backends.iter().map(|row| format!("{} {}", row.name, row.per_second)).collect();
    format!(
        "{:6.1} s  received {received} = delivered {delivered} + held {held} + lost {lost}; \
         possible duplicates {}; msg/s: {}",
        at.as_secs_f64(),
        figures.possible_duplicates,
        rates.join(", "),
    )
}

// === numbers ===

/// A number with commas: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A change: `+1,234`, `-5`, `0`.
fn signed(number: i64) -> String {
    let size = grouped(number.unsigned_abs());
    match number {
        0 => size,
        1.. => format!("+{size}"),
        _ => format!("-{size}"),
    }
}

/// At most nine characters: exact below ten million, then rounded with a letter.
fn short(number: u64) -> String {
    if number < 10_000_000 {
        return grouped(number);
    }
    let (mut scaled, mut letters) = (number as f64 / 1e6, "MGTPE".chars());
    let mut letter = letters.next();
    while scaled >= 999.95 {
        scaled /= 1e3;
        letter = letters.next();
    }
    format!("{scaled:.1} {}", letter.unwrap_or('?'))
}

/// A part of everything as a bar, to an eighth of a column where blocks can be shown.
fn bar(share: f64, has_blocks: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if !has_blocks {
        return "#".repeat((share * BAR_COLUMNS as f64).round() as usize);
    }
    let eighths = (share * (BAR_COLUMNS * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Scene {
        Scene {
            agents: "127.0.0.1:11800".into(),
            admin: "127.0.0.1:9901".into(),
            agents_total: 12,
            rate: 10_000,
            has_keys: true,
            has_blocks: true,
        }
    }

    fn row(name: &str, per_second: u64, share: f64, state: &str) -> BackendRow {
        BackendRow { name: name.into(), per_second, share, in_flight: per_second, state: state.into() }
    }

    fn figures() -> Figures {
        Figures {
            backends: vec![
                row("collector-a", 4_980, 0.498, "up"),
                row("collector-b", 0, 0.0, "unreachable"),
                row("collector-c", 5_020, 0.502, "up"),
            ],
            per_second: Law { received: 10_000, delivered: 9_100, held: 900, lost: 0 },
            in_all: Law { received: 1_234_567, delivered: 1_224_000, held: 10_567, lost: 0 },
            possible_duplicates: 3_311,
        }
    }

    fn endless() -> Figures {
        let law = Law { received: u64::MAX, delivered: u64::MAX, held: i64::MIN, lost: u64::MAX };
        let name = "a collector with a name that does not end";
        let state = "a state that nobody has thought of";
        Figures {
            backends: vec![row(name, u64::MAX, 9.0, state), row("b", 10_000_000, f64::NAN, "")],
            per_second: law,
            in_all: law,
            possible_duplicates: u64::MAX,
        }
    }

    fn numbers(lines: &[String], name: &str) -> Vec<i64> {
        let line = lines.iter().find(|line| line.contains(name)).unwrap();
        let words = line.split_whitespace().filter_map(|word| word.replace(',', "").parse().ok());
        words.collect()
    }

    fn plain(figures: &Figures, notes: &[Note]) -> Vec<String> {
        table(&scene(), figures, notes).iter().map(Line::plain).collect()
    }

    #[test]
    fn the_law_adds_up_as_it_is_shown() {
        let lines = plain(&figures(), &[]);
        let [received, delivered, held, lost] =
            ["  received", "= delivered", "+ held", "+ lost"].map(|name| numbers(&lines, name));
        for column in 0..2 {
            assert_eq!(received[column], delivered[column] + held[column] + lost[column]);
        }
        assert_eq!(received[1], 1_234_567);
    }

    #[test]
    fn names_numbers_and_states_stand_below_one_another() {
        let lines = plain(&figures(), &[]);
        let rows: Vec<&String> = lines.iter().filter(|line| line.contains("collector-")).take(3).collect();
        let places = |what: fn(&str) -> Option<usize>| rows.iter().filter_map(|row| what(row)).collect::<Vec<_>>();
        assert_eq!(places(|row| row.find("collector-")), [2, 2, 2]);
        assert_eq!(places(|row| row.find('%')), [30, 30, 30]);
        assert_eq!(places(|row| row.find("up").or(row.find("unreachable"))), [46, 46, 46]);
    }

    #[test]
    fn no_line_is_wider_than_a_terminal_whatever_the_figures() {
        let notes = vec![Note { at: Duration::MAX, text: "long ".repeat(50) }; 9];
        for figures in [figures(), endless(), Figures::default()] {
            let lines = table(&scene(), &figures, &notes);
            for line in &lines {
                assert!(line.columns() <= COLUMNS, "{}: {:?}", line.columns(), line.plain());
            }
            assert!(lines.len() <= 23, "{} lines do not fit a terminal of 24", lines.len());
        }
    }

    #[test]
    fn the_picture_keeps_its_height_whatever_has_happened() {
        let note = Note { at: Duration::from_secs(3), text: "you killed collector-b".into() };
        assert_eq!(plain(&figures(), &[]).len(), plain(&figures(), &vec![note; 7]).len());
    }

    #[test]
    fn a_bar_shows_the_share_and_all_of_it_is_full() {
        assert_eq!(bar(1.0, true), "█".repeat(24));
        assert_eq!(bar(1.0 / 3.0, true), "█".repeat(8));
        assert_eq!(bar(0.5 / 24.0, true), "▌");
        assert_eq!(bar(0.5, false), "############");
        assert_eq!(bar(0.0, true), "");
    }

    #[test]
    fn large_numbers_stay_short_and_small_ones_exact() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!(short(9_999_999), "9,999,999");
        assert_eq!(short(12_345_678), "12.3 M");
        assert_eq!(short(999_999_999), "1.0 G");
        assert_eq!(short(u64::MAX), "18.4 E");
        assert_eq!([signed(-1_200), signed(0), signed(7)], ["-1,200", "0", "+7"]);
    }

    #[test]
    fn what_is_noted_cannot_move_the_cursor() {
        let line = note(&Note { at: Duration::ZERO, text: "a\x1b[2J\nb".into() });
        assert!(line.plain().ends_with("a·[2J·b"));
    }

    #[test]
    fn one_line_says_the_law_for_a_script() {
        let line = line(Duration::from_secs(4), &figures());
        assert!(line.contains("received 1234567 = delivered 1224000 + held 10567 + lost 0"), "{line}");
        assert!(line.contains("collector-b 0"), "{line}");
    }
}
