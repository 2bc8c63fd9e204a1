//! Puts what was measured where docs/performance.md has marks for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md")
}

/// Where the page has its pictures.
pub fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures")
}

/// Replaces what stands between `<!-- MARK -->` and `<!-- /MARK -->`, for each mark.
///
/// # Errors
///
/// The page has no such pair of marks; then nothing is written.
pub fn write<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
    let mut page = fs::read_to_string(path())?;
    for (mark, text) in parts {
        page = replaced(&page, mark, text)
            .ok_or_else(|| io::Error::other(format!("docs/performance.md has no marks `{mark}`")))?;
    }
    fs::write(path(), page)
}

fn replaced(page: &str, mark: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}
