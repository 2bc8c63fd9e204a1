//! The query of a request: names and values as bytes, for a key need not be text.

/// Parameters in one query; nobody needs as many.
const PARAMETERS_MAX: usize = 16;

/// The parameters of a query, in order. A name may come twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, Vec<u8>)>);

// === impl Query ===

impl Query {
    /// Reads what stands behind the `?`; `%xx` is a byte and `+` a blank.
    ///
    /// # Errors
    /// What is wrong with it, for whoever sent it.
    pub fn read(text: Option<&str>) -> Result<Self, String> {
        let mut parameters = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(format!("the query has more than {PARAMETERS_MAX} parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let broken = || "the query has a % that is not followed by two hexadecimal digits".to_owned();
            let name = String::from_utf8_lossy(&bytes_of(name).ok_or_else(broken)?).into_owned();
            parameters.push((name, bytes_of(value).ok_or_else(broken)?));
        }
        Ok(Self(parameters))
    }

    /// The names that are none of `known`.
    pub fn unknown<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.names().filter(|name| !known.contains(name))
    }

    /// Every name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The values of a name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The one value of a name as text; `None` when it is absent or empty.
    ///
    /// # Errors
    /// When it stands there twice or is no text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, String> {
        let mut values = self.values(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(format!("`{name}` is given twice; give it once"));
        }
        let text = first.map(std::str::from_utf8).transpose().map_err(|_| format!("`{name}` is not UTF-8"))?;
        Ok(text.filter(|text| !text.is_empty()))
    }
}

/// The bytes that a part of a query stands for; `None` when a `%` stands for none.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_values_are_bytes_and_may_repeat() {
        let query = Query::read(Some("pool=oap&key=%00%ff&key=a+b%3D&&count=")).unwrap();
        assert_eq!(query.text("pool"), Ok(Some("oap")));
        assert_eq!(query.values("key").collect::<Vec<_>>(), [&b"\x00\xff"[..], b"a b="]);
        assert_eq!((query.text("count"), query.text("nothing")), (Ok(None), Ok(None)));
        assert!(query.text("key").unwrap_err().contains("twice"));
        assert_eq!(query.unknown(&["pool", "key"]).collect::<Vec<_>>(), ["count"]);
        assert_eq!(Query::read(None), Ok(Query::default()));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for broken in ["a=%", "a=%4", "a=%zz", "%g0=a", "a=%+1"] {
            assert!(Query::read(Some(broken)).is_err(), "{broken}");
        }
        assert!(Query::read(Some(&"a&".repeat(PARAMETERS_MAX))).is_ok());
        assert!(Query::read(Some(&"a&".repeat(PARAMETERS_MAX + 1))).is_err());
    }

    proptest! {
        #[test]
        fn every_value_can_be_said(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let said: String = value.iter().map(|byte| format!("%{byte:02x}")).collect();
            let query = Query::read(Some(&format!("key={said}"))).unwrap();
            prop_assert_eq!(query.values("key").next(), Some(value.as_slice()));
        }

        #[test]
        fn no_query_panics(text in "\\PC{0,64}") {
            let _ = Query::read(Some(&text));
        }
    }
}
