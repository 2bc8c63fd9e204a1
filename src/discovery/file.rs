//! Backends listed in a file that somebody else keeps.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter, Spanned};

use super::{Announcer, Trouble};
use crate::pool::Endpoint;
use crate::pool::found::{Found, WEIGHT_MAX};

/// Which file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it lies; a relative path has been joined to the config's directory.
    pub path: PathBuf,
}

/// How often the file is read. By its content rather than by notices of the file system: a Kubernetes ConfigMap changes
/// by swapping a directory two links away, and network file systems give no notices at all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file above this lists no backends: ten thousand of them take less.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Follows a file for ever.
pub async fn follow(settings: Settings, mut announcer: Announcer) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tick.tick().await;
        let path = settings.path.clone();
        // It fails only when the runtime ends.
        let Ok(text) = tokio::task::spawn_blocking(move || text(&path)).await else { return };
        // What has been read is not read again, but it is a look.
        let looked = match last {
            Some((ref before, ref looked)) if *before == text => Result::clone(looked),
            _ => text.clone().map_err(Trouble::Failed).and_then(|text| read(&text, &settings.path)),
        };
        match looked.clone() {
            Ok(all) => announcer.found(all),
            Err(trouble) => announcer.failed(trouble),
        }
        last = Some((text, looked));
    }
}

/// Looks into a file once. Blocks as long as the file system does.
///
/// # Errors
/// As [`read`], and [`Trouble::Failed`] when the file cannot be read.
pub fn look(path: &Path) -> Result<Vec<Found>, Trouble> {
    text(path).map_err(Trouble::Failed).and_then(|text| read(&text, path))
}

/// What is in the file. Neither a pipe nor a device can hold it up or fill the memory.
fn text(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is larger than 1 MiB, which no list of backends is", path.display()));
    }
    Ok(text)
}

/// Reads a list of backends, YAML or JSON: `host:port`, or a map of `endpoint`, `name`, `weight`, `priority` and `zone`.
/// `path` is what messages call the file.
///
/// # Errors
/// [`Trouble::Empty`] when nobody is listed; [`Trouble::Failed`] with line, what and mend when it is no such list.
pub fn read(text: &str, path: &Path) -> Result<Vec<Found>, Trouble> {
    let name = path.display();
    let entries: Option<Vec<Spanned<Entry>>> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| format!(":{}", location.line())).unwrap_or_default();
        let said = DefaultMessageFormatter.format_message(error.without_snippet()).into_owned();
        Trouble::Failed(format!("{name}{line}: {said}; write a list of `- host:port` or `- {{ endpoint: host:port }}`"))
    })?;
    let mut all: Vec<Found> = Vec::new();
    for Spanned { value: Entry(found), referenced, .. } in entries.unwrap_or_default() {
        if all.iter().any(|other| other.name == found.name) {
            let line = referenced.line();
            return Err(Trouble::Failed(format!(
                "{name}:{line}: {} is named twice; name each backend once",
                found.name
            )));
        }
        all.push(found);
    }
    if all.is_empty() {
        return Err(Trouble::Empty(format!("{name} lists no backend")));
    }
    Ok(all)
}

// === impl Settings ===

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file:{}", self.path.display())
    }
}

/// One backend of the list.
struct Entry(Found);

/// One backend with more than its address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    endpoint: String,
    name: Option<String>,
    weight: Option<u32>,
    priority: Option<u32>,
    zone: Option<String>,
}

// === impl Entry ===

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a backend, `host:port` or `{ endpoint: host:port }`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Entry, E> {
        text.trim().parse().map(|endpoint| Entry(Found::at(endpoint))).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        let detailed = Detailed::deserialize(MapAccessDeserializer::new(map))?;
        let endpoint: Endpoint = detailed.endpoint.trim().parse().map_err(A::Error::custom)?;
        let bare = Found::at(endpoint);
        let weight = detailed.weight.unwrap_or(bare.weight);
        if !(1..=WEIGHT_MAX).contains(&weight) {
            return Err(A::Error::custom(format!("weight {weight} is not from 1 to {WEIGHT_MAX}")));
        }
        Ok(Entry(Found {
            name: detailed.name.unwrap_or_else(|| bare.name.clone()),
            weight,
            priority: detailed.priority.unwrap_or_default(),
            zone: detailed.zone,
            ..bare
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn listed(text: &str) -> Result<Vec<Found>, String> {
        read(text, Path::new("backends.yaml")).map_err(|trouble| trouble.to_string())
    }

    #[test]
    fn a_backend_is_an_address_or_a_map() {
        let text = "
- oap-0:11800
- { endpoint: '10.0.0.1:11800', name: b, weight: 3, priority: 1, zone: eu-1a }
";
        let all = listed(text).unwrap();
        assert_eq!(all[0], Found::at("oap-0:11800".parse().unwrap()));
        let zone = Some("eu-1a".to_owned());
        let second = Found::at("10.0.0.1:11800".parse().unwrap());
        assert_eq!(all[1], Found { name: "b".to_owned(), weight: 3, priority: 1, zone, ..second });
        let json = r#"["oap-0:11800", {"endpoint": "10.0.0.1:11800", "name": "b", "weight": 3, "priority": 1, "zone": "eu-1a"}]"#;
        assert_eq!(listed(json), Ok(all));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said) in [
            ("- a:1\n- b\n", "backends.yaml:2: \"b\" has no port"),
            ("- a:1\n- a:1\n", "backends.yaml:2: a:1 is named twice; name each backend once"),
            ("- a:1\n- endpoint: b:1\n  weigth: 3\n", "weigth"),
            ("- a:1\n- { endpoint: b:1, weight: 0 }\n", "backends.yaml:2: weight 0 is not from 1 to 1000"),
            ("a: 1\n", "backends.yaml:1: "),
            ("- [\n", "backends.yaml:"),
            ("# nobody yet\n", "backends.yaml lists no backend"),
            ("", "backends.yaml lists no backend"),
            ("[]", "backends.yaml lists no backend"),
        ] {
            let trouble = listed(text).unwrap_err();
            assert!(trouble.contains(said), "{text:?}: {trouble}");
            assert!(trouble.lines().count() == 1, "one line of the log: {trouble}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        for (path, said) in [("/dev/zero", "is no file"), ("/", "is no file"), ("no/such/list.yaml", "cannot be read")]
        {
            let trouble = look(Path::new(path)).unwrap_err().to_string();
            assert!(trouble.contains(said), "{trouble}");
        }
    }

    /// A file that goes when the test does.
    struct Scratch(PathBuf);

    impl Scratch {
        fn write(&self, text: &str) {
            // Beside it first, as whoever keeps such a file should.
            let beside = self.0.with_extension("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(beside, &self.0).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_told_and_a_bad_or_missing_one_is_not() {
        let file = Scratch(std::env::temp_dir().join(format!("switchyard-backends-{}.yaml", std::process::id())));
        let told: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let to = Arc::clone(&told);
        let tell = move |all: Vec<Found>| to.lock().unwrap().push(all.into_iter().map(|found| found.name).collect());
        let following = tokio::spawn(follow(Settings { path: file.0.clone() }, Announcer::new("oap", tell)));
        let wait_for = async |sets: usize| {
            let until = tokio::time::Instant::now() + Duration::from_secs(20);
            while told.lock().unwrap().len() < sets && tokio::time::Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            told.lock().unwrap().clone()
        };
        file.write("- a:1");
        assert_eq!(wait_for(1).await, [["a:1"]]);
        file.write("- a");
        // Two looks, so that the bad file has been seen.
        tokio::time::sleep(LOOK_EVERY * 2).await;
        std::fs::remove_file(&file.0).unwrap();
        tokio::time::sleep(LOOK_EVERY * 2).await;
        file.write("- a:1\n- b:1");
        assert_eq!(wait_for(2).await, [vec!["a:1"], vec!["a:1", "b:1"]]);
        following.abort();
    }
}
