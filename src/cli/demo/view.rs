//! Who watches the demo, and what they are shown: a table, a line a second, or nothing but the end.

use std::io::{self, Write, stderr, stdout};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::figures::Figures;
use super::layout::{self, Note, Scene};
use super::outcome::Report;
use super::screen::{Screen, Slips};
use crate::config::Log;

/// What is shown, and what has happened.
pub struct View {
    form: Form,
    scene: Scene,
    notes: Vec<Note>,
}

enum Form {
    /// For a person at a terminal. Log lines come as slips and are shown as notes.
    Table { screen: Screen, slips: std_mpsc::Receiver<String> },
    /// For a pipe or a file.
    Lines {
        /// When the next line is due, after the start.
        next: Duration,
    },
    /// For a script.
    Json,
}

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// What is logged while a table stands: the rest is in the table.
const QUIET: &str = "error";

// === impl View ===

impl View {
    /// Takes the terminal if there is one, and says where everything is.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub fn open(json: bool, mut scene: Scene) -> io::Result<Self> {
        let form = if json {
            Form::Json
        } else if Screen::is_possible() {
            let (sender, slips) = std_mpsc::channel();
            catch_words(sender);
            let screen = Screen::open()?;
            scene.has_keys = screen.has_keys();
            return Ok(Self { form: Form::Table { screen, slips }, scene, notes: Vec::new() });
        } else {
            Form::Lines { next: Duration::ZERO }
        };
        crate::cli::start_logging(&Log { level: QUIET.to_owned(), ..Log::default() });
        if let Form::Lines { .. } = form {
            layout::header(&scene).iter().for_each(|line| say(&line.plain()));
        }
        Ok(Self { form, scene, notes: Vec::new() })
    }

    /// The keys a person presses; none where there is nobody.
    pub fn keys(&self) -> mpsc::Receiver<u8> {
        match &self.form {
            Form::Table { screen, .. } => screen.keys(),
            Form::Lines { .. } | Form::Json => mpsc::channel(1).1,
        }
    }

    /// Tells of something that happened.
    pub fn note(&mut self, at: Duration, text: String) {
        match &self.form {
            Form::Table { .. } => self.notes.push(Note { at, text }),
            Form::Lines { .. } => say(&format!("{:6.1} s  {text}", at.as_secs_f64())),
            // Standard output is for the object alone.
            Form::Json => drop(writeln!(stderr(), "{:6.1} s  {text}", at.as_secs_f64())),
        }
        // What is no longer shown need not be kept.
        let old = self.notes.len().saturating_sub(layout::NOTES_MAX);
        self.notes.drain(..old);
    }

    /// Shows how things stand.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn show(&mut self, at: Duration, figures: &Figures) -> io::Result<()> {
        match &mut self.form {
            Form::Table { screen, slips } => {
                self.notes.extend(slips.try_iter().map(|text| Note { at, text }));
                screen.draw(&layout::table(&self.scene, figures, &self.notes))
            }
            Form::Lines { next } if at >= *next => {
                *next = at.max(*next + LINE_EVERY);
                writeln!(stdout(), "{}", layout::line(at, figures))
            }
            Form::Lines { .. } | Form::Json => Ok(()),
        }
    }

    /// Gives the terminal back and says how it ended.
    pub fn close(self, report: &Report, one_line: &str) {
        match self.form {
            Form::Json => say(&serde_json::to_string(report).expect("a report is plain numbers and names")),
            Form::Lines { .. } => say(&format!("{}\n{one_line}", report.check())),
            Form::Table { screen, slips } => {
                drop(screen);
                slips.try_iter().for_each(|slip| drop(writeln!(stderr(), "{slip}")));
                say(&format!("{}\n{one_line}", report.check()));
            }
        }
    }
}

/// Prints a line; whoever read may be gone, which ends nothing.
fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}");
}

/// Sends log lines, and the last words of threads other than this one, to the table instead of across it.
fn catch_words(sender: std_mpsc::Sender<String>) {
    let words = sender.clone();
    let writer = move || Slips(words.clone());
    let format = tracing_subscriber::fmt().without_time().with_ansi(false).compact();
    let filter = tracing_subscriber::EnvFilter::new(QUIET);
    // Somebody may log already, in tests for one; then that stays.
    let _ = format.with_env_filter(filter).with_writer(writer).try_init();
    let (here, usual) = (std::thread::current().id(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == here || sender.send(panic.to_string()).is_err() {
            usual(panic);
        }
    }));
}
