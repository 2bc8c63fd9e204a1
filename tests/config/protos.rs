//! Descriptor sets beside the config: names of fields, and what is said of files that are none.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use http::HeaderMap;
use switchyard::config::{Overrides, Plan, Problem, load};
use switchyard::message::field;
use switchyard::message::path::FieldPath;
use switchyard::route::contract::{Carry, CarryMode, Key, Split};
use switchyard::route::reading::Reading;
use switchyard::route::rule::decide::Rules;

use super::said;

const DOCS: &str = include_str!("../../docs/configuration.md");

/// A directory of its own for a config and its files; removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("switchyard-protos-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for temporary files");
        Self(path)
    }

    fn with(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.0.join(name), bytes).expect("a file of its own");
        self
    }

    /// With what `protoc -o` makes of a source; `imports` says whether with what it imports.
    fn with_set(self, name: &str, sources: &[(&str, &str)], imports: bool) -> Self {
        for (name, source) in sources {
            fs::write(self.0.join(name), source).expect("a file of its own");
        }
        let mut compiler = protox::Compiler::new([&self.0]).expect("the directory is there");
        compiler.include_imports(imports).open_file(sources[0].0).expect("the source compiles");
        let set = compiler.encode_file_descriptor_set();
        self.with(name, &set)
    }

    fn load(&self, text: &str) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
        let name = self.0.join("switchyard.yaml");
        load(text, &name.display().to_string(), &Overrides::default())
    }

    /// What is said, with the directory left out.
    fn said(&self, text: &str) -> String {
        said(self.load(text))
            .replace(&format!("{}/", self.0.display()), "")
            .replace(&self.0.display().to_string(), "DIRECTORY")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What stands between two lines of the manual.
fn of_manual(from: &str, to: &str) -> &'static str {
    let (_, behind) = DOCS.split_once(from).unwrap_or_else(|| panic!("docs/configuration.md: no {from}"));
    behind.split_once(to).unwrap_or_else(|| panic!("docs/configuration.md: no {to} behind {from}")).0
}

#[test]
fn the_worked_example_of_the_manual_does_what_it_says() {
    let source = of_manual("```protobuf\n", "```");
    let text = of_manual("```yaml\n# shop.yaml\n", "```");
    let directory = Directory::new("example").with_set("shop.binpb", &[("shop.proto", source)], true);
    let (plan, warnings) = directory.load(text).unwrap_or_else(|problems| panic!("{}", said(Err(problems))));
    assert_eq!(warnings, []);
    let route = plan.routes.find("/shop.v1.Telemetry/Push", None).expect("it is described");
    let contract = &route.method.contract;
    assert_eq!(contract.split, Split::Carry(Carry { fields: vec![1], mode: CarryMode::Latest }));
    assert_eq!(contract.key, Some(Key::Fields(vec![FieldPath::of(&[1, 2])])));
    assert!(contract.sticky);
    let reading = |temperature: i64| {
        let mut body = BytesMut::new();
        // sint32: zigzag.
        field::put_varint(&mut body, 2 << 3);
        field::put_varint(&mut body, ((temperature << 1) ^ (temperature >> 63)) as u64);
        body
    };
    let rules = Rules::of(&route.rules, "agents", &HeaderMap::new());
    let falls_under = |body: &[u8]| rules.verdict(&Reading { body, carried: &[] }).rule.name.to_string();
    assert_eq!(falls_under(&reading(-40)), "broken sensors");
    assert_eq!(falls_under(&reading(21)), "default");
}

#[test]
fn what_is_no_descriptor_set_is_answered_with_the_command_that_makes_one() {
    let directory = Directory::new("wrong")
        .with("shop.proto", b"syntax = \"proto3\";")
        .with("shop.json", b"{\"file\": []}")
        .with("shop.txt", b"file {\n}")
        .with("shop.gz", &[0x1f, 0x8b, 8])
        .with("empty", b"")
        .with("noise", &[0xff, 0xff]);
    let text = "to: a:1\nprotos: [shop.proto, shop.json, shop.txt, shop.gz, empty, noise, gone, noise, .]\n";
    let expected = "\
error: protos: shop.proto is the source, not a descriptor set
error: protos: shop.json is JSON, not a binary descriptor set
error: protos: shop.txt is text, not a binary descriptor set
error: protos: shop.gz is compressed
error: protos: empty is empty
error: protos: noise is no descriptor set
error: protos: cannot read gone: No such file or directory (os error 2)
error: protos: noise is named twice
error: protos: cannot read .: it is no file";
    let told = directory.said(text);
    let whats: Vec<_> = told.lines().filter_map(|line| Some(&line[line.find("error: ")?..])).collect();
    assert_eq!(whats.join("\n"), expected);
    assert!(
        told.contains("mend: make a descriptor set of it with `protoc --include_imports -o shop.binpb shop.proto`"),
        "{told}"
    );
    assert!(told.contains("mend: it is looked for in DIRECTORY; make it with"), "{told}");
}

#[test]
fn a_set_without_its_imports_says_what_it_lacks() {
    let sources = [
        ("shop.proto", "syntax = \"proto3\"; import \"place.proto\"; message Shop { Place at = 1; }"),
        ("place.proto", "syntax = \"proto3\"; message Place { string city = 1; }"),
    ];
    let directory =
        Directory::new("imports").with_set("bare.binpb", &sources, false).with_set("place.binpb", &sources[1..], false);
    let told = directory.said("to: a:1\nprotos: bare.binpb");
    let expected = "
switchyard.yaml:2:9: error: protos: bare.binpb lacks place.proto, which shop.proto imports
  2 | protos: bare.binpb
    |         ^^^^^^^^^^
  mend: add --include_imports to protoc, or the file that has it to `protos`
";
    assert_eq!(told, expected.trim_matches('\n'));
    assert!(directory.load("to: a:1\nprotos: [bare.binpb, place.binpb]").is_ok());
}

#[test]
fn two_sets_that_differ() {
    let directory = Directory::new("differ")
        .with_set("old.binpb", &[("a.proto", "syntax = \"proto3\"; message A { string a = 1; }")], true)
        .with_set("new.binpb", &[("a.proto", "syntax = \"proto3\"; message A { string b = 1; }")], true);
    let told = directory.said("to: a:1\nprotos: [old.binpb, new.binpb]");
    assert!(told.contains("protos: new.binpb has a.proto otherwise than a file above has it"), "{told}");
}

#[test]
fn what_a_descriptor_says_of_a_contract_is_believed() {
    let source = "
syntax = \"proto3\";
package shop.v1;
service Telemetry { rpc Push(stream Reading) returns (Ack); rpc Watch(Reading) returns (stream Ack); }
message Ack {}
message Reading {
  Source source = 1; double price = 2; repeated string tags = 3; bool done = 4; string task = 5; int32 code = 6;
  Level level = 7; repeated int32 codes = 8;
}
message Source { string name = 1; }
enum Level { LOW = 0; HIGH = 5; }
";
    let directory = Directory::new("believed").with_set("shop.binpb", &[("shop.proto", source)], true);
    let said = |settings: &str| {
        let text = format!("to: a:1\nprotos: shop.binpb\nmethods:\n- {{ {settings} }}\n");
        let told = directory.said(&text);
        let lines: Vec<_> =
            told.lines().filter(|line| line.contains(": error: ") || line.starts_with("  mend: ")).collect();
        lines.iter().map(|line| &line[line.find("error: ").unwrap_or(0)..]).collect::<Vec<_>>().join("\n")
    };
    let push = "path: /shop.v1.Telemetry/Push, split:";
    for (settings, expected) in [
        (format!("{push} each, key: [source.name, level, code], sticky: true"), ""),
        (
            format!("{push} each, key: price"),
            "error: methods[0].key: `price` is a number with a fraction, which makes no key\n  mend: name a text or a whole number",
        ),
        (
            format!("{push} each, key: source"),
            "error: methods[0].key: `source` is a message, shop.v1.Source, which makes no key\n  mend: name a text or a whole number inside of it, as in source.name",
        ),
        (
            format!("{push} each, key: codes"),
            "error: methods[0].key: `codes` is a packed list of numbers, which makes no key\n  mend: name a text or a whole number",
        ),
        (
            format!("{push} each, key: source.nam"),
            "error: methods[0].key: shop.v1.Source has no field `nam`\n  mend: did you mean `name`?",
        ),
        (
            format!("{push} carry, carry: {{ fields: source, mode: first_non_empty }}"),
            "error: methods[0].carry.fields: `source` is a message, shop.v1.Source, and must be a text\n  mend: name a text",
        ),
        (
            format!("{push} carry, carry: {{ fields: [tags, code], mode: latest }}"),
            "error: methods[0].carry.fields: `tags` is repeated, and what a stream says once is not\n  mend: name another field\nerror: methods[0].carry.fields: `code` is a whole number; only texts and messages are carried\n  mend: name another field",
        ),
        (format!("{push} sets, last: done, name: task"), ""),
        (
            format!("{push} sets, last: task, name: done"),
            "error: methods[0].last: `task` is a text, and must be true or false\n  mend: name a boolean\nerror: methods[0].name: `done` is true or false, and must be a text\n  mend: name a text",
        ),
        (
            "path: /shop.v1.Telemetry/Watch, split: each".to_owned(),
            "error: methods[0].split: this method answers with a stream, which only a backend can say\n  mend: write `split: relay`",
        ),
        ("path: /shop.v1.Telemetry/Watch, split: relay, key: source.name".to_owned(), ""),
    ] {
        assert_eq!(said(&settings), expected, "{settings}");
    }
}

#[test]
fn values_are_compared_as_the_descriptor_has_them() {
    let source = "
syntax = \"proto3\";
package shop.v1;
service Telemetry { rpc Push(stream Reading) returns (Ack); }
message Ack {}
message Reading {
  Level level = 1; sint32 zigzag = 2; bool flag = 3; int64 plain = 4; sfixed32 fixed = 5; fixed64 wide = 6; bytes raw = 7;
}
enum Level { LOW = 0; HIGH = 5; BELOW = -1; }
";
    let directory = Directory::new("values").with_set("shop.binpb", &[("shop.proto", source)], true);
    let with = |comparison: &str| {
        format!(
            "to: a:1\nprotos: shop.binpb\nmethods: [ {{ path: /shop.v1.Telemetry/Push, split: each }} ]\n\
             routes: [ {{ message: {{ {comparison} }}, drop: x }} ]"
        )
    };
    let fits = |comparison: &str, body: &[u8]| {
        let (plan, _) = directory.load(&with(comparison)).unwrap_or_else(|problems| panic!("{}", said(Err(problems))));
        let route = plan.routes.find("/shop.v1.Telemetry/Push", None).expect("it is described");
        let rules = Rules::of(&route.rules, "agents", &HeaderMap::new());
        let rule = rules.verdict(&Reading { body, carried: &[] }).rule;
        &*rule.name == "routes[0]"
    };
    const MINUS_ONE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    for (comparison, body, other) in [
        ("level: HIGH", &[8, 5][..], &[8, 4][..]),
        ("level: 5", &[8, 5], &[]),
        ("level: LOW", &[], &[8, 5]),
        ("level: BELOW", &[&[8][..], &MINUS_ONE].concat(), &[8, 5]),
        ("zigzag: -40", &[16, 79], &[16, 80]),
        ("flag: true", &[24, 1], &[]),
        ("flag: false", &[24, 0], &[24, 1]),
        ("plain: -1", &[&[32][..], &MINUS_ONE].concat(), &[32, 1]),
        ("fixed: [-1, 7]", &[45, 0xff, 0xff, 0xff, 0xff], &[45, 1, 0, 0, 0]),
        ("wide: 18446744073709551615", &[&[49][..], &[0xff; 8]].concat(), &[49, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("raw: { prefix: ab }", &[58, 3, b'a', b'b', b'c'], &[58, 1, b'a']),
        ("plain: { present: true }", &[32, 1], &[]),
    ] {
        assert!(fits(comparison, body), "{comparison}");
        assert!(!fits(comparison, other), "{comparison}, other");
    }
    for (comparison, expected) in [
        ("level: HIHG", "error: routes[0].message.level: `level` is a word of Level, which \"HIHG\" is not"),
        ("flag: yes", "error: routes[0].message.flag: `flag` is true or false, which \"yes\" is not"),
        ("wide: -1", "error: routes[0].message.wide: `wide` is a whole number, which \"-1\" is not"),
        ("zigzag: 1.5", "error: routes[0].message.zigzag: `zigzag` is a whole number, which \"1.5\" is not"),
    ] {
        let told = directory.said(&with(comparison));
        assert!(told.contains(expected), "{comparison}\n{told}");
    }
    assert!(directory.said(&with("level: HIHG")).contains("mend: did you mean `HIGH`?"));
}

#[test]
fn files_are_looked_for_beside_the_config() {
    let directory =
        Directory::new("beside").with_set("shop.binpb", &[("shop.proto", "syntax = \"proto3\"; message A {}")], true);
    assert!(directory.load("to: a:1\nprotos: shop.binpb").is_ok());
    assert!(directory.load("to: a:1\nprotos: ./shop.binpb").is_ok());
    let absolute = Path::new(&directory.0).join("shop.binpb");
    assert!(directory.load(&format!("to: a:1\nprotos: {}", absolute.display())).is_ok());
}
