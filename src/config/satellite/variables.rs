//! Every variable of Satellite's shipped configuration, and what it means here.

use super::spelling;
use crate::config::problem::Mistake;

/// What all of them begin with.
pub const PREFIX: &str = "SATELLITE_";

/// What a variable means.
#[derive(Clone, Copy)]
pub enum Meaning {
    /// A setting, once its value is spelt our way.
    Setting(&'static str, fn(&str) -> String),
    /// The same, of builds that have that setting; without it nothing is lost.
    IfKnown(&'static str, fn(&str) -> String),
    /// A setting whose value is never shown.
    Secret(&'static str),
    /// Read together with others: where backends are, TLS to them, the path of the file.
    Together,
    /// Tunes a queue or a buffer.
    Queue,
    /// Has this value here, and no other.
    Only(&'static str),
    /// Has nothing to set here.
    Nothing,
    /// Would be unsafe or wrong to leave out.
    Refused(&'static str),
}

/// What to do about what is refused.
pub const REFUSED_MEND: &str =
    "unset it; a pod reaches the API with the token and the certificate of its service account";

/// Does away with the check of the backends' certificates.
pub const SKIP_VERIFY: &str = "GRPC_INSECURE_SKIP_VERIFY";

/// Files for TLS to the backends, with the settings they become where TLS is on.
pub const TLS: [(&str, &str); 3] = [
    ("GRPC_CA_PEM_PATH", "pool.tls.ca"),
    ("GRPC_CLIENT_PEM_PATH", "pool.tls.certificate"),
    ("GRPC_CLIENT_KEY_PATH", "pool.tls.key"),
];

const VARIABLES: &[(&str, Meaning)] = &[
    ("CONFIG", Meaning::Together),
    ("GRPC_CLIENT", Meaning::Together),
    ("GRPC_CLIENT_FINDER", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_NAMESPACE", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_KIND", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_SELECTOR_LABEL", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_SELECTOR_FIELD", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_EXTRA_PORT", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_API_SERVER", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_BEARER_TOKEN_FILE", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_TLS_CONFIG_CA_FILE", Meaning::Together),
    ("GRPC_CLIENT_KUBERNETES_BEARER_TOKEN", Meaning::Refused("a token in a variable never changes, and tokens do")),
    ("GRPC_CLIENT_KUBERNETES_BASIC_AUTH_USERNAME", Meaning::Refused(BASIC)),
    ("GRPC_CLIENT_KUBERNETES_BASIC_AUTH_PASSWORD", Meaning::Refused(BASIC)),
    ("GRPC_CLIENT_KUBERNETES_BASIC_AUTH_PASSWORD_FILE", Meaning::Refused(BASIC)),
    ("GRPC_CLIENT_KUBERNETES_PROXY_URL", Meaning::Refused("the API is not reached through a proxy")),
    ("GRPC_CLIENT_KUBERNETES_TLS_CONFIG_CERT_FILE", Meaning::Refused(CERTIFICATE)),
    ("GRPC_CLIENT_KUBERNETES_TLS_CONFIG_KEY_FILE", Meaning::Refused(CERTIFICATE)),
    ("GRPC_CLIENT_KUBERNETES_TLS_CONFIG_SERVER_NAME", Meaning::Refused("the API is known by its own name only")),
    (
        "GRPC_CLIENT_KUBERNETES_TLS_CONFIG_INSECURE_SKIP_VERIFY",
        Meaning::Refused("the API's certificate is always verified: it is given a token"),
    ),
    ("GRPC_ENABLE_TLS", Meaning::Together),
    ("GRPC_CA_PEM_PATH", Meaning::Together),
    ("GRPC_CLIENT_PEM_PATH", Meaning::Together),
    ("GRPC_CLIENT_KEY_PATH", Meaning::Together),
    (SKIP_VERIFY, Meaning::Together),
    ("GRPC_AUTHENTICATION", Meaning::Secret("pool.authentication")),
    ("GRPC_CHECK_PERIOD", Meaning::IfKnown("pool.health.interval", spelling::seconds)),
    ("GRPC_TIMEOUT_UNARY", Meaning::Setting("limits.relay_deadline", spelling::duration)),
    ("GRPC_TIMEOUT_STREAM", Meaning::Setting("pool.trip.hard_deadline", spelling::duration)),
    ("GRPC_ADDRESS", Meaning::Setting("listen.agents.address", spelling::same)),
    ("GRPC_TLS_CERT_FILE", Meaning::Setting("listen.agents.tls.certificate", spelling::same)),
    ("GRPC_TLS_KEY_FILE", Meaning::Setting("listen.agents.tls.key", spelling::same)),
    ("GRPC_ACCEPT_LIMIT_CONNECTION_COUNT", Meaning::Setting("listen.agents.connections", spelling::same)),
    ("GRPC_ACCEPT_LIMIT_CPU_UTILIZATION", Meaning::Nothing),
    ("TELEMETRY_PROMETHEUS_ADDRESS", Meaning::Setting("listen.prometheus.address", spelling::same)),
    ("TELEMETRY_PROMETHEUS_ENDPOINT", Meaning::Only("/metrics")),
    ("TELEMETRY_CLUSTER", Meaning::Nothing),
    ("TELEMETRY_SERVICE", Meaning::Nothing),
    ("TELEMETRY_INSTANCE", Meaning::Nothing),
    ("TELEMETRY_EXPORT_TYPE", Meaning::Nothing),
    ("TELEMETRY_METRICS_SERVICE_CLIENT_NAME", Meaning::Nothing),
    ("TELEMETRY_METRICS_SERVICE_INTERVAL", Meaning::Nothing),
    ("TELEMETRY_METRICS_SERVICE_METRIC_PREFIX", Meaning::Nothing),
    ("TELEMETRY_PPROF_ADDRESS", Meaning::Nothing),
    ("LOGGER_LEVEL", Meaning::Setting("log.level", spelling::level)),
    ("LOGGER_LOG_PATTERN", Meaning::Nothing),
    ("LOGGER_TIME_PATTERN", Meaning::Nothing),
    ("SHUTDOWN_HOOK_TIME", Meaning::Setting("drain_deadline", spelling::seconds)),
    ("QUEUE_PARTITION", Meaning::Queue),
    ("QUEUE_EVENT_BUFFER_SIZE", Meaning::Queue),
];

const BASIC: &str = "the API takes no password";
const CERTIFICATE: &str = "the API is asked with a token, not with a certificate";

/// Each pipe has its own set of these: `TRACINGPIPE_SENDER_FLUSH_TIME` and some fifty more.
const OF_PIPES: [&str; 6] =
    ["_FLUSH_TIME", "_MAX_BUFFER_SIZE", "_MIN_FLUSH_EVENTS", "_LIMIT_COUNT", "_LRU_CACHE_SIZE", "_LRU_CACHE_TTL"];

/// What a variable means, by its name without the prefix; `None`: nobody knows it.
pub fn meaning(name: &str) -> Option<Meaning> {
    match VARIABLES.iter().find(|(known, _)| *known == name) {
        Some((_, meaning)) => Some(*meaning),
        None => OF_PIPES.iter().any(|end| name.ends_with(end)).then_some(Meaning::Queue),
    }
}

/// The names that have a meaning of their own.
pub fn names() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|(name, _)| *name)
}

/// Kubernetes sets these in every pod beside a service that is called `satellite`.
pub fn is_service_link(name: &str) -> bool {
    name == "PORT" || ["PORT_", "SERVICE_HOST", "SERVICE_PORT"].iter().any(|begin| name.starts_with(begin))
}

/// The rest of `GRPC_CLIENT_KUBERNETES_`, and what becomes of it.
const CLUSTER: [(&str, &str); 4] = [
    ("SELECTOR_FIELD", "pool.endpoints.kubernetes.fields"),
    ("API_SERVER", "pool.endpoints.kubernetes.api_server"),
    ("BEARER_TOKEN_FILE", "pool.endpoints.kubernetes.token_file"),
    ("TLS_CONFIG_CA_FILE", "pool.endpoints.kubernetes.ca"),
];

/// A setting's path, its value, and the variable it is from; empty: the finder.
type Laid<'a> = (&'static str, String, &'a str);

/// Where the backends of a cluster are; or the variable that is in the way, and why.
pub fn cluster<'a>(get: impl Fn(&str) -> Option<(&'a str, &'a str)>) -> Result<Vec<Laid<'a>>, (&'a str, Mistake)> {
    let of = |name: &str| get(&format!("GRPC_CLIENT_KUBERNETES_{name}"));
    let value = |name: &str, default: &'static str| of(name).map_or(default, |(_, value)| value);
    if let Some((variable, kind)) = of("KIND").filter(|(_, kind)| *kind != "pod") {
        let what = format!("\"{kind}\" is not followed: pods are, which is all that Satellite's rights allow");
        return Err((variable, Mistake::new(what, "write pod")));
    }
    let (namespace, port) = (value("NAMESPACE", "default"), value("EXTRA_PORT", "11800"));
    let selector = value("SELECTOR_LABEL", "");
    let others: Vec<_> = CLUSTER
        .into_iter()
        .filter_map(|(name, path)| of(name).map(|(variable, value)| (path, value.to_owned(), variable)))
        .collect();
    if others.is_empty() {
        return Ok(vec![("to", format!("k8s://{namespace}/{selector}:{port}"), "")]);
    }
    let mut settings = vec![
        ("pool.endpoints.kubernetes.namespace", namespace.to_owned(), ""),
        ("pool.endpoints.kubernetes.selector", selector.to_owned(), ""),
        ("pool.endpoints.kubernetes.port", port.to_owned(), ""),
    ];
    settings.extend(others);
    Ok(settings)
}

/// What is said of a value that cannot be had.
pub fn only(value: &str, only: &str) -> Mistake {
    Mistake::new(format!("\"{value}\" has no effect: it is {only} here"), format!("scrape {only}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_known_by_their_ends() {
        let is_queue = |name| matches!(meaning(name), Some(Meaning::Queue));
        assert!(is_queue("TRACINGPIPE_SENDER_FLUSH_TIME") && is_queue("ENVOY_ALS_V3_PIPE_RECEIVER_LIMIT_COUNT"));
        assert!(meaning("GRPC_CLINT").is_none() && is_service_link("PORT_11800_TCP_ADDR"));
    }

    #[test]
    fn the_manual_names_every_variable_that_becomes_a_setting() {
        let manual = include_str!("../../../docs/satellite.md");
        for (name, meaning) in VARIABLES {
            if matches!(meaning, Meaning::Refused(_) | Meaning::Nothing | Meaning::Queue) {
                continue;
            }
            let short = name.strip_prefix("GRPC_CLIENT_KUBERNETES").unwrap_or(name);
            assert!(manual.contains(&format!("`{name}`")) || manual.contains(&format!("`{short}`")), "{name}");
        }
    }

    #[test]
    fn each_variable_stands_once() {
        for (at, (name, _)) in VARIABLES.iter().enumerate() {
            assert!(!VARIABLES[..at].iter().any(|(other, _)| other == name), "{name}");
        }
    }
}
