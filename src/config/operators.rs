//! Who may use the ports of operators: the tokens of `admin:` and `endpoints:`.

use std::path::Path;

use super::problem::{Findings, Mistake};
use super::protos::contents;
use super::section::Section;
use crate::admin::Token;

/// The tokens that open the ports to others than this machine.
#[derive(Default)]
pub(super) struct Tokens {
    pub admin: Option<Token>,
    pub endpoints: Option<Token>,
}

/// Characters of a token that is not worth guessing at: 16 hexadecimal digits are 64 bits.
const LENGTH_MIN: usize = 16;

const HOW: &str = "`openssl rand -hex 16`";

/// Reads both groups.
pub(super) fn read(root: &Section<'_>, findings: &mut Findings<'_>) -> Tokens {
    let mut of = |name: &str| token(&root.section(name, findings), findings);
    Tokens { admin: of("admin"), endpoints: of("endpoints") }
}

fn token(section: &Section<'_>, findings: &mut Findings<'_>) -> Option<Token> {
    let written = section.read("token", findings, parse);
    let directory = findings.directory();
    let from_file = section.read("token_file", findings, |file| of_file(directory, file));
    if section.has("token") && section.has("token_file") {
        let mistake = Mistake::new("`token` is set already", "keep one of the two");
        findings.error_in(&section.key("token_file"), mistake);
        return None;
    }
    let name = if written.is_some() { "token" } else { "token_file" };
    let token = written.or(from_file)?;
    if token.length() < LENGTH_MIN {
        let what = format!("a token of {} characters can be guessed", token.length());
        let mend = format!("use {LENGTH_MIN} or more, as of {HOW}");
        findings.warn_of(&section.key(name), Mistake::new(what, mend));
    }
    Some(token)
}

fn parse(text: &str) -> Result<Token, Mistake> {
    let mend = format!("write letters, digits and signs without blanks, as of {HOW}");
    Token::new(text).ok_or_else(|| Mistake::new("is no token that a header can hold", mend))
}

fn of_file(directory: Option<&Path>, file: &str) -> Result<Token, Mistake> {
    let bytes = contents(directory, file).map_err(|error| {
        let mend = match directory.filter(|_| Path::new(file).is_relative()) {
            Some(directory) => format!("it is looked for in {}", directory.display()),
            None => format!("write a token into it, as of {HOW}"),
        };
        Mistake::new(format!("cannot read {file}: {error}"), mend)
    })?;
    // Whatever writes such files ends them with a line.
    let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
    Token::new(text).ok_or_else(|| {
        Mistake::new(format!("there is no token in {file}"), format!("write one line into it, as of {HOW}"))
    })
}
