//! Descriptor sets: files beside the config from which fields have their names.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::problem::{Findings, Mistake};
use super::section::{Section, Written, scalar};
use crate::route::schema::Schema;
use crate::route::schema::sets::{Sets, Why};

/// A file above this is no descriptor set; those of large companies have a few MiB.
const FILE_BYTES_MAX: u64 = 32 << 20;

const HOW: &str = "`protoc --include_imports -o shop.binpb shop.proto` or `buf build -o shop.binpb`";

/// What is known of messages: by Switchyard, and by the files under `protos:`.
pub(super) fn read(root: &Section<'_>, findings: &mut Findings<'_>) -> Schema {
    let mut sets = Sets::default();
    let mut files: Vec<Written<'_>> = Vec::new();
    for item in root.items("protos") {
        let Some(file) = scalar(item, "protos".to_owned(), findings) else { continue };
        if files.iter().any(|other| other.text == file.text) {
            findings.error(
                file.at,
                "protos",
                Mistake::new(format!("{} is named twice", file.text), "name each file once"),
            );
            continue;
        }
        match contents(findings.directory(), file.text) {
            Ok(bytes) => {
                if let Err(wrong) = sets.add(&bytes) {
                    findings.error(file.at, "protos", mistake(file.text, &wrong.why));
                }
                files.push(file);
            }
            Err(error) => {
                let mend = match findings.directory() {
                    Some(directory) if Path::new(file.text).is_relative() => {
                        format!("it is looked for in {}; make it with {HOW}", directory.display())
                    }
                    _ => format!("make it with {HOW}"),
                };
                findings.error(file.at, "protos", Mistake::new(format!("cannot read {}: {error}", file.text), mend));
            }
        }
    }
    match sets.finish() {
        Ok(given) => Schema::with(given),
        Err(wrong) => {
            if let Some(file) = files.get(wrong.set) {
                findings.error(file.at, "protos", mistake(file.text, &wrong.why));
            }
            Schema::built_in()
        }
    }
}

/// The bytes of a file; what is not a plain file, or too large, is an error.
pub(super) fn contents(directory: Option<&Path>, file: &str) -> io::Result<Vec<u8>> {
    let path = directory.map_or_else(|| Path::new(file).to_owned(), |directory| directory.join(file));
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(&path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 32 MiB"));
    }
    Ok(bytes)
}

fn mistake(file: &str, why: &Why) -> Mistake {
    let make = format!("make a descriptor set of it with {HOW}");
    let (what, mend) = match why {
        Why::Empty => (format!("{file} is empty"), make),
        Why::Source => (format!("{file} is the source, not a descriptor set"), make),
        Why::Json => (format!("{file} is JSON, not a binary descriptor set"), make),
        Why::Text => (format!("{file} is text, not a binary descriptor set"), make),
        Why::Compressed => (format!("{file} is compressed"), "unpack it".to_owned()),
        Why::NoSet => (format!("{file} is no descriptor set"), format!("make one with {HOW}")),
        Why::Differs { file: proto } => (
            format!("{file} has {proto} otherwise than a file above has it"),
            "make both from the same sources".to_owned(),
        ),
        Why::Lacks { file: proto, import } => (
            format!("{file} lacks {import}, which {proto} imports"),
            "add --include_imports to protoc, or the file that has it to `protos`".to_owned(),
        ),
        Why::Unsound(error) => (format!("{file} contradicts itself: {error}"), format!("make it anew with {HOW}")),
    };
    Mistake::new(what, mend)
}
