//! What a setting takes, and how that is told.

use super::Bounds;

/// What a setting takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Other settings.
    Group,
    /// `ip:port`, a port, or `off`.
    Address,
    /// Backends: a list, a string with commas, or the URL of a source.
    Backends,
    /// Where one backend listens.
    Endpoint,
    /// The address of a server, without a name.
    Server,
    /// Where the members of a registry listen.
    Members,
    /// The number of a port, or its name.
    Port,
    /// A list of gRPC methods, paths or settings.
    Methods,
    /// One gRPC method, `/pkg.Service/Method`.
    Method,
    /// Pools by their names.
    Pools,
    /// Field names, one or a list.
    Fields,
    /// Names and the field numbers they stand for.
    Numbers,
    /// A secret that calls bring as metadata.
    Token,
    /// Secrets, one or a list.
    Tokens,
    /// Names of metadata, one or a list.
    Metadata,
    /// Files, beside the config unless said otherwise.
    Files,
    /// A file, beside the config unless said otherwise.
    File,
    /// Settings, or whether the usual ones hold.
    Tls,
    /// DNS names, addresses or URIs of a certificate, with stars; one or a list.
    Names,
    /// Rules on content.
    Routes,
    /// Methods or globs, one or a list.
    Globs,
    /// Words of the set, one or a list.
    SomeOf(&'static [&'static str]),
    /// Names, each with what its value is compared with.
    Comparisons,
    /// Groups of conditions.
    Conditions,
    /// A word of the operator's own.
    Label,
    /// The name of a pool.
    Pool,
    /// Who or what keeps its backend.
    AffinityBy,
    /// A share, with a percent sign.
    Share,
    /// A part of a hundred, with a percent sign.
    Percent,
    /// A rate, such as `5k/s`.
    Rate,
    /// Any text.
    Text,
    /// Any texts, one or a list.
    Texts,
    /// A log level, or levels by module.
    Level,
    /// One of these words; the first is the default.
    Words(&'static [&'static str]),
    /// An amount.
    Amount(Bounds),
}

// === impl Kind ===

impl Kind {
    /// What it takes, in words.
    pub fn takes(&self) -> String {
        match self {
            Kind::Group => "settings".to_owned(),
            Kind::Address => "ip:port, a port, or off".to_owned(),
            Kind::Backends => "host:port, one or more, or a source".to_owned(),
            Kind::Endpoint => "host:port".to_owned(),
            Kind::Server => "ip or ip:port".to_owned(),
            Kind::Members => "host:port, one or more".to_owned(),
            Kind::Port => "a port, or its name".to_owned(),
            Kind::Methods => "a list of methods".to_owned(),
            Kind::Method => "/pkg.Service/Method".to_owned(),
            Kind::Pools => "names, each with backends or settings".to_owned(),
            Kind::Fields => "field names, one or a list".to_owned(),
            Kind::Numbers => "names, each with field numbers".to_owned(),
            Kind::Token => "a token".to_owned(),
            Kind::Tokens => "tokens, one or a list".to_owned(),
            Kind::Metadata => "names of metadata, one or a list".to_owned(),
            Kind::Files => "files, one or a list".to_owned(),
            Kind::File => "a file".to_owned(),
            Kind::Tls => "settings, true, or false".to_owned(),
            Kind::Names => "names with stars, one or a list".to_owned(),
            Kind::Routes => "a list of routes".to_owned(),
            Kind::Globs => "methods or globs, one or a list".to_owned(),
            Kind::SomeOf(words) => format!("{}; one or a list", words.join(", ")),
            Kind::Comparisons => "names, each with what it is compared with".to_owned(),
            Kind::Conditions => "conditions".to_owned(),
            Kind::Label => "a word or a few".to_owned(),
            Kind::Pool => "the name of a pool".to_owned(),
            Kind::AffinityBy => "peer, key, or metadata:NAME".to_owned(),
            Kind::Share => "0.0001% to 100%".to_owned(),
            Kind::Percent => "0% to 100%".to_owned(),
            Kind::Rate => "1/h to 10M/s".to_owned(),
            Kind::Text => "a text".to_owned(),
            Kind::Texts => "texts, one or a list".to_owned(),
            Kind::Level => "error, warn, info, debug, trace, or off".to_owned(),
            Kind::Words(words) => words.join(", "),
            Kind::Amount(bounds) => bounds.takes(),
        }
    }
}
