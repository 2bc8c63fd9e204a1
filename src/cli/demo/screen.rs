//! The terminal: keys without Enter, a picture redrawn in place, and everything put back at the end.

use std::io::{self, IsTerminal, Read, Stdin, Write, stdin, stdout};
use std::sync::mpsc::Sender;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use tokio::sync::mpsc;

use super::layout::{Line, Paint};

/// A terminal with a picture on it; dropping it puts everything back.
pub struct Screen {
    /// The terminal's settings before; `None` when there is no keyboard.
    before: Option<(Stdin, Termios)>,
    has_colours: bool,
    /// Lines drawn the last time.
    drawn: usize,
}

/// Keys not yet looked at; more are dropped.
const KEYS_MAX: usize = 16;

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
// A line that wrapped would take two rows, and the next picture would begin one too low.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";
const ERASE_TO_LINE_END: &str = "\x1b[K";
const ERASE_TO_SCREEN_END: &str = "\x1b[J";

// === impl Screen ===

impl Screen {
    /// Whether stdout is a terminal that can be drawn on.
    pub fn is_possible() -> bool {
        stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
    }

    /// Whether the terminal's characters go beyond ASCII, by the first of the locale's variables that is set.
    pub fn has_blocks() -> bool {
        let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
        let locale = set.into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    }

    /// Takes the terminal. Keys come at once and are not shown; Ctrl-C remains a signal.
    ///
    /// # Errors
    /// When the terminal does not take its settings.
    pub fn open() -> io::Result<Self> {
        let before = if stdin().is_terminal() { Some((stdin(), termios::tcgetattr(stdin())?)) } else { None };
        if let Some((stdin, before)) = &before {
            let mut settings = before.clone();
            settings.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            // Ctrl-Z and Ctrl-\ would leave the terminal as it is now. Zero is no key.
            settings.special_codes[SpecialCodeIndex::VSUSP] = 0;
            settings.special_codes[SpecialCodeIndex::VQUIT] = 0;
            settings.special_codes[SpecialCodeIndex::VMIN] = 1;
            settings.special_codes[SpecialCodeIndex::VTIME] = 0;
            termios::tcsetattr(stdin, OptionalActions::Now, &settings)?;
        }
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        let screen = Self { before, has_colours, drawn: 0 };
        put(HIDE_CURSOR)?;
        Ok(screen)
    }

    /// Whether there is a keyboard.
    pub fn has_keys(&self) -> bool {
        self.before.is_some()
    }

    /// What is typed, from now on. Its thread ends with the process: a read from a terminal cannot be called off.
    pub fn keys(&self) -> mpsc::Receiver<u8> {
        let (keys, typed) = mpsc::channel(KEYS_MAX);
        if self.has_keys() {
            std::thread::spawn(move || {
                let mut key = [0];
                while matches!(stdin().read(&mut key), Ok(1)) {
                    // A full queue: nobody types that fast on purpose.
                    if let Err(mpsc::error::TrySendError::Closed(_)) = keys.try_send(key[0]) {
                        return;
                    }
                }
            });
        }
        typed
    }

    /// Draws over the last picture.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        // The cursor cannot go up beyond the first row: what does not fit is left out.
        let rows = termios::tcgetwinsize(stdout()).map_or(24, |size| usize::from(size.ws_row));
        let lines = &lines[..lines.len().min(rows.max(2) - 1)];
        let mut text = String::from(WRAP_OFF);
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\r", self.drawn));
        }
        for line in lines {
            for (paint, piece) in line.pieces() {
                text.push_str(&painted(self.has_colours, *paint, piece));
            }
            text.push_str(ERASE_TO_LINE_END);
            text.push_str("\r\n");
        }
        text.push_str(ERASE_TO_SCREEN_END);
        text.push_str(WRAP_ON);
        self.drawn = lines.len();
        put(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _ = put(&format!("{WRAP_ON}{SHOW_CURSOR}"));
        if let Some((stdin, before)) = &self.before {
            // Flush: what was typed and not looked at is not for the shell.
            let _ = termios::tcsetattr(stdin, OptionalActions::Flush, before);
        }
    }
}

fn painted(has_colours: bool, paint: Paint, text: &str) -> String {
    let code = match paint {
        Paint::Plain => return text.to_owned(),
        _ if !has_colours || text.is_empty() => return text.to_owned(),
        Paint::Bold => 1,
        Paint::Dim => 2,
        Paint::Green => 32,
        Paint::Yellow => 33,
        Paint::Red => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// In one write, so that no half picture is seen.
fn put(text: &str) -> io::Result<()> {
    let mut stdout = stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes log lines to whoever shows them: on stderr they would tear the picture.
pub struct Slips(pub Sender<String>);

impl Write for Slips {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Nobody shows them any more at the very end.
        let _ = self.0.send(String::from_utf8_lossy(line).trim().to_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_nothing_but_the_text_is_written() {
        assert_eq!(painted(false, Paint::Red, "unreachable"), "unreachable");
        assert_eq!(painted(true, Paint::Red, "unreachable"), "\x1b[31munreachable\x1b[0m");
        assert_eq!(painted(true, Paint::Plain, "up"), "up");
    }
}
