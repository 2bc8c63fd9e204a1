//! `switchyard healthcheck`: asks `/ready` once, for images that have no curl.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls;
use crate::wire::tls::{ClientSettings, ClientTls, Protocol};

/// Asks a running gateway whether it is ready.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to GET, by http or https.
    #[arg(long, env = "SWITCHYARD_HEALTHCHECK_URL", default_value = "http://127.0.0.1:1234/ready")]
    pub url: String,
    /// Seconds to wait for the whole answer (`2`, `0.5`, `2s`).
    #[arg(long, default_value = "2s", value_parser = seconds)]
    pub timeout: Duration,
    /// The authority that signed the port's certificate (PEM). Without it, https asks the machine's authorities, and on
    /// loopback nobody: there is no way on which somebody could stand in between.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The name that the port's certificate has to have, instead of the URL's host.
    #[arg(long, value_name = "NAME", requires = "ca")]
    pub server_name: Option<String>,
    /// The certificate to show, for a port that asks for one (PEM).
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// The key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
}

/// Why the gateway does not count as ready.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    /// The URL is not one we can ask.
    #[error("{0}: not a URL like http://127.0.0.1:1234/ready")]
    Url(String),
    /// A file is no good.
    #[error("{0}")]
    Tls(String),
    /// Nobody answered, or not in HTTP.
    #[error("{url}: {source}; does the gateway run, and is this its metrics port?")]
    Io {
        /// What was asked.
        url: String,
        /// What the socket said.
        source: std::io::Error,
    },
    /// The deadline passed.
    #[error("{url}: no answer in {deadline:?}")]
    Late {
        /// What was asked.
        url: String,
        /// How long we waited.
        deadline: Duration,
    },
    /// An answer other than 2xx.
    #[error("{status}: {reason}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The answer's first line.
        reason: String,
    },
}

/// An answer is a word or two; what is longer is not ours.
const ANSWER_BYTES_MAX: u64 = 8 << 10;

/// Asks once, prints one line, answers the exit code: 0 when ready, else 1.
pub fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("cannot start a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(ask(args)) {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(unready) => {
            println!("{unready}");
            ExitCode::FAILURE
        }
    }
}

/// The first line of a 2xx answer.
///
/// # Errors
/// On everything else.
pub async fn ask(args: &Args) -> Result<String, Unready> {
    let Args { url, timeout: deadline, .. } = args;
    let target = split(url).ok_or_else(|| Unready::Url(url.clone()))?;
    let tls = if target.is_https { Some(args.tls(target.host()).map_err(Unready::Tls)?) } else { None };
    let answer = match timeout(*deadline, exchange(&target, tls.as_deref())).await {
        Ok(answer) => answer.map_err(|source| Unready::Io { url: url.clone(), source })?,
        Err(_) => return Err(Unready::Late { url: url.clone(), deadline: *deadline }),
    };
    let (status, line) = read(&answer).ok_or_else(|| Unready::Io {
        url: url.clone(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is not HTTP"),
    })?;
    if (200..300).contains(&status) { Ok(line) } else { Err(Unready::Status { status, reason: line }) }
}

// === impl Args ===

impl Args {
    fn tls(&self, host: &str) -> Result<Arc<ClientTls>, String> {
        let is_loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        tls::client(ClientSettings {
            setting: "-".to_owned(),
            authorities: self.ca.clone(),
            pair: tls::pair(self.certificate.clone(), self.key.clone()),
            server_name: self.server_name.clone(),
            verify: self.ca.is_some() || !is_loopback,
            protocol: Protocol::Http1,
        })
    }
}

// === impl Target ===

impl Target<'_> {
    fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// A URL taken apart.
#[derive(Debug, PartialEq)]
struct Target<'a> {
    is_https: bool,
    /// `host:port`.
    authority: String,
    path: &'a str,
}

/// Takes an http or https URL apart; the port defaults to 80 or 443, the path to `/`.
fn split(url: &str) -> Option<Target<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let (is_https, usual_port) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || authority.contains('@') || !is_plain(rest) {
        return None;
    }
    // The last colon is the port's unless it stands inside an IPv6 address, which ends with a bracket.
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:{usual_port}") };
    Some(Target { is_https, authority, path: if path.is_empty() { "/" } else { path } })
}

async fn exchange(target: &Target<'_>, tls: Option<&ClientTls>) -> std::io::Result<Vec<u8>> {
    let socket = TcpStream::connect(&target.authority).await?;
    match tls {
        None => converse(socket, target).await,
        Some(tls) => converse(tls.connect(target.host(), socket).await?, target).await,
    }
}

async fn converse(mut socket: impl AsyncRead + AsyncWrite + Unpin, target: &Target<'_>) -> std::io::Result<Vec<u8>> {
    let Target { authority, path, .. } = target;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: switchyard-healthcheck\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    socket.flush().await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The status and the body's first line, without control characters.
fn read(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let line = body.lines().next().unwrap_or_default();
    Some((status, line.chars().filter(|it| !it.is_control()).take(200).collect()))
}

/// `2`, `0.5` or `2s`.
fn seconds(text: &str) -> Result<Duration, String> {
    text.strip_suffix('s')
        .unwrap_or(text)
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| format!("`{text}` is not a number of seconds above 0, like 2 or 0.5"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tokio::net::TcpListener;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    const SOON: Duration = Duration::from_secs(5);

    /// A port that says `answer` to its first caller, or nothing.
    async fn port(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ready", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await.unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        url
    }

    async fn ask(url: &str, timeout: Duration) -> Result<String, Unready> {
        super::ask(&Args { url: url.to_owned(), timeout, ca: None, server_name: None, certificate: None, key: None })
            .await
    }

    #[tokio::test]
    async fn ready_is_said() {
        let url = port("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n").await;
        assert_eq!(ask(&url, SOON).await.unwrap(), "ready");
    }

    #[tokio::test]
    async fn draining_is_not_ready_and_says_why() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\n\r\ndraining: SIGTERM\x1b\n";
        let error = ask(&port(answer).await, SOON).await.unwrap_err();
        assert_eq!(error.to_string(), "503: draining: SIGTERM");
    }

    #[tokio::test]
    async fn silence_and_noise_are_not_ready() {
        let silent = ask(&port("").await, Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(Unready::Late { .. })), "{silent:?}");
        let noise = ask(&port("SSH-2.0-OpenSSH\r\n").await, SOON).await;
        assert!(matches!(noise, Err(Unready::Io { .. })), "{noise:?}");
    }

    #[test]
    fn urls_are_taken_apart() {
        let taken_apart = |url: &str| {
            let target = split(url).unwrap();
            format!("{} {} {} {}", target.is_https, target.authority, target.host(), target.path)
        };
        assert_eq!(taken_apart("http://127.0.0.1:1234/ready"), "false 127.0.0.1:1234 127.0.0.1 /ready");
        assert_eq!(taken_apart("http://gateway"), "false gateway:80 gateway /");
        assert_eq!(taken_apart("https://gateway/live"), "true gateway:443 gateway /live");
        assert_eq!(taken_apart("http://[::1]/live"), "false [::1]:80 ::1 /live");
        assert_eq!(taken_apart("https://[::1]:1234/live"), "true [::1]:1234 ::1 /live");
        for url in ["ftp://a/", "http://", "http:///x", "127.0.0.1:1234", "http://a/\r\nx: y", "http://u@a/"] {
            assert_eq!(split(url), None, "{url:?}");
        }
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds() {
        for (text, millis) in [("2", 2000), ("0.5", 500), ("2s", 2000)] {
            let program = Program::try_parse_from(["healthcheck", "--timeout", text]).unwrap();
            assert_eq!(program.args.timeout, Duration::from_millis(millis));
        }
        for text in ["", "s", "-1", "0", "NaN", "inf", "two"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }
}
