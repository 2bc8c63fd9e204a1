//! Descriptor sets of the operator: what is in them, and what it is when it is none.

use std::panic::catch_unwind;

use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};

/// `FileDescriptorSet`s as they are read, one after the other.
#[derive(Debug, Default)]
pub struct Sets {
    /// Each .proto file once, with the number of the set it came with.
    files: Vec<(usize, FileDescriptorProto)>,
    sets: usize,
}

/// Why a descriptor set is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongSet {
    /// Which of the sets, in the order they were added.
    pub set: usize,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a descriptor set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is nothing in it.
    Empty,
    /// It is the source of one: a .proto file.
    Source,
    /// It is one in JSON.
    Json,
    /// It is one in protobuf's text format.
    Text,
    /// It is compressed.
    Compressed,
    /// It is something else.
    NoSet,
    /// It has a file that an earlier set has otherwise.
    Differs {
        /// The .proto file.
        file: String,
    },
    /// It lacks what one of its files imports.
    Lacks {
        /// The .proto file that imports.
        file: String,
        /// What it imports.
        import: String,
    },
    /// It contradicts itself.
    Unsound(String),
}

// === impl Sets ===

impl Sets {
    /// Adds a set.
    ///
    /// # Errors
    /// When it is none, or differs from an earlier one.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), WrongSet> {
        let number = self.sets;
        self.sets += 1;
        let wrong = |why| WrongSet { set: number, why };
        let set = FileDescriptorSet::decode(bytes).map_err(|_| wrong(looks_like(bytes)))?;
        if set.file.is_empty() || set.file.iter().any(|file| file.name().is_empty()) {
            return Err(wrong(looks_like(bytes)));
        }
        for file in set.file {
            match self.files.iter().find(|(_, known)| known.name() == file.name()) {
                Some((_, known)) if *known != file => {
                    return Err(wrong(Why::Differs { file: file.name().to_owned() }));
                }
                Some(_) => {}
                None => self.files.push((number, file)),
            }
        }
        Ok(())
    }

    /// What all of them describe together; `None` when there are none.
    ///
    /// # Errors
    /// When something they speak of is in none of them, or they contradict themselves.
    pub fn finish(mut self) -> Result<Option<DescriptorPool>, WrongSet> {
        if self.files.is_empty() {
            return Ok(None);
        }
        self.add_google_types();
        for (set, file) in &self.files {
            let lacks = |import: &&String| !self.files.iter().any(|(_, known)| known.name() == import.as_str());
            if let Some(import) = file.dependency.iter().find(lacks) {
                let why = Why::Lacks { file: file.name().to_owned(), import: import.clone() };
                return Err(WrongSet { set: *set, why });
            }
        }
        let files: Vec<FileDescriptorProto> = self.files.iter().map(|(_, file)| as_proto3(file)).collect();
        match pool_of(files) {
            Ok(pool) => Ok(Some(pool)),
            Err((file, why)) => {
                let is_it = |(_, known): &&(usize, FileDescriptorProto)| Some(known.name()) == file.as_deref();
                let set = self.files.iter().find(is_it).map_or(0, |(set, _)| *set);
                Err(WrongSet { set, why: Why::Unsound(why) })
            }
        }
    }

    /// Everybody has these, so that sets are often made without.
    fn add_google_types(&mut self) {
        for file in DescriptorPool::global().file_descriptor_protos() {
            if !self.files.iter().any(|(_, other)| other.name() == file.name()) {
                self.files.push((0, file.clone()));
            }
        }
    }
}

/// What the files describe; else the file that is wrong, if that is known, and what is wrong with it.
fn pool_of(files: Vec<FileDescriptorProto>) -> Result<DescriptorPool, (Option<String>, String)> {
    // prost-reflect 0.16 panics at some sets that no compiler makes, such as one with an index that points nowhere.
    let built = catch_unwind(|| {
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos(files).map(|()| pool)
    });
    match built {
        Ok(Ok(pool)) => Ok(pool),
        Ok(Err(error)) => Err((error.file().map(str::to_owned), error.to_string())),
        Err(_) => Err((None, "it speaks of what is not in it".to_owned())),
    }
}

/// A file of an edition as one of proto3, with which it shares names, numbers and the packing of lists: more of it is
/// not asked here. Reading editions is beyond prost-reflect 0.16.
fn as_proto3(file: &FileDescriptorProto) -> FileDescriptorProto {
    let is_edition = !matches!(file.syntax(), "" | "proto2" | "proto3");
    let syntax = if is_edition { Some("proto3".to_owned()) } else { file.syntax.clone() };
    FileDescriptorProto { syntax, ..file.clone() }
}

/// What bytes are that are no descriptor set.
fn looks_like(bytes: &[u8]) -> Why {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(b"PK") { Why::Compressed } else { Why::NoSet };
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let is_source = |line: &str| {
        ["syntax", "edition", "package", "import", "message", "service", "/*"].iter().any(|word| line.starts_with(word))
    };
    match lines.next() {
        None => Why::Empty,
        Some(line) if line.starts_with('{') => Why::Json,
        Some(line) if line.starts_with("file") => Why::Text,
        Some(line) if is_source(line) => Why::Source,
        Some(_) => Why::NoSet,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::DESCRIPTOR_SET;

    fn why(bytes: &[u8]) -> Why {
        Sets::default().add(bytes).unwrap_err().why
    }

    fn set(files: &[FileDescriptorProto]) -> Vec<u8> {
        FileDescriptorSet { file: files.to_vec() }.encode_to_vec()
    }

    fn file(name: &str, imports: &[&str]) -> FileDescriptorProto {
        let dependency = imports.iter().map(ToString::to_string).collect();
        FileDescriptorProto { name: Some(name.to_owned()), dependency, ..FileDescriptorProto::default() }
    }

    #[test]
    fn what_is_no_descriptor_set_is_known_for_what_it_is() {
        for (bytes, expected) in [
            (&b""[..], Why::Empty),
            (b"  \n// nothing\n", Why::Empty),
            (b"// shop\nsyntax = \"proto3\";\n", Why::Source),
            (b"{\"file\":[]}", Why::Json),
            (b"file {\n name: \"a.proto\"\n}", Why::Text),
            (b"hello", Why::NoSet),
            (&[0x1f, 0x8b, 8, 0], Why::Compressed),
            (&[0xff, 0xfe], Why::NoSet),
        ] {
            assert_eq!(why(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn sets_that_overlap_go_together_unless_they_differ() {
        let mut sets = Sets::default();
        assert_eq!(sets.add(&set(&[file("b.proto", &["a.proto"])])), Ok(()));
        assert_eq!(
            sets.add(&set(&[file("a.proto", &["google/protobuf/timestamp.proto"]), file("b.proto", &["a.proto"])])),
            Ok(())
        );
        let differs = WrongSet { set: 2, why: Why::Differs { file: "a.proto".to_owned() } };
        assert_eq!(sets.add(&set(&[file("a.proto", &[])])), Err(differs));
        assert!(sets.finish().unwrap().unwrap().get_file_by_name("b.proto").is_some());
        assert!(Sets::default().finish().unwrap().is_none());
    }

    #[test]
    fn a_set_that_lacks_an_import_says_which() {
        let mut sets = Sets::default();
        sets.add(&set(&[file("a.proto", &[])])).unwrap();
        sets.add(&set(&[file("b.proto", &["a.proto", "c.proto"])])).unwrap();
        let why = Why::Lacks { file: "b.proto".to_owned(), import: "c.proto".to_owned() };
        assert_eq!(sets.finish().unwrap_err(), WrongSet { set: 1, why });
    }

    #[test]
    fn a_file_of_an_edition_can_be_read() {
        let edition = FileDescriptorProto { syntax: Some("editions".to_owned()), ..file("a.proto", &[]) };
        let mut sets = Sets::default();
        sets.add(&set(&[edition])).unwrap();
        assert!(sets.finish().unwrap().unwrap().get_file_by_name("a.proto").is_some());
    }

    #[test]
    fn a_set_that_contradicts_itself_says_how() {
        let message = |name: &str| prost_reflect::prost_types::DescriptorProto {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let twice = FileDescriptorProto { message_type: vec![message("A"), message("A")], ..file("a.proto", &[]) };
        let mut sets = Sets::default();
        sets.add(&set(&[twice])).unwrap();
        let Why::Unsound(why) = sets.finish().unwrap_err().why else { panic!("it is unsound") };
        assert!(why.contains("'A' is defined twice"), "{why}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_never_a_panic(bytes in prop::collection::vec(0u8..=255, 0..200)) {
            let mut sets = Sets::default();
            let _ = sets.add(&bytes);
            let _ = sets.finish();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_broken_set_is_never_a_panic(at in 0..DESCRIPTOR_SET.len(), byte in 0u8..=255) {
            let mut broken = DESCRIPTOR_SET.to_vec();
            broken[at] = byte;
            let mut sets = Sets::default();
            let _ = sets.add(&broken);
            let _ = sets.finish();
        }
    }
}
