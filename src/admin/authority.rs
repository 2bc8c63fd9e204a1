//! Who may use a port of ours: whoever has its token or, where none is set, somebody on this machine.
//!
//! A browser on this machine is somebody on it, whatever page it shows. So a caller without a token must not speak for
//! a foreign page: the name it calls us by has to be this machine's (else a name was bound to 127.0.0.1 to reach us),
//! its `Origin` has to be our own page, and a form has to come with a header that no form can send.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use tokio::net::TcpListener;

use super::door::Peer;
use super::query::Query;

/// What opens a port to whoever brings it. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

/// The token of a port; a reload may change it. `None`: none is set.
pub type SharedToken = Arc<ArcSwapOption<Token>>;

/// Decides who may use one port.
pub(super) struct Authority {
    token: SharedToken,
    /// Whether only this machine can reach the port.
    is_local: bool,
    /// The setting that holds the token, for mends.
    setting: &'static str,
}

/// Who was let in, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// It brought the token.
    Token(SocketAddr),
    /// It showed a certificate that the port asks for.
    Certificate(SocketAddr),
    /// It is on this machine.
    Loopback(SocketAddr),
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is a token to bring, and it brought none.
    NoToken,
    /// It brought another one.
    WrongToken,
    /// The token stands in the URL, where logs and histories keep it.
    TokenInUrl,
    /// No token is set, and it is not on this machine.
    NotLocal,
    /// It calls us by a name that is not this machine's.
    ForeignHost,
    /// It speaks for another page than ours.
    ForeignPage,
    /// It may be a form of another page.
    Form,
}

/// A form cannot send it.
pub(super) const OWN_HEADER: HeaderName = HeaderName::from_static("x-switchyard");

/// What a proxy adds. Behind one, everybody seems to be on this machine.
const OF_PROXIES: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Parameters that would be a token.
const TOKEN_PARAMETERS: [&str; 6] = ["token", "access_token", "auth_token", "bearer", "authorization", "api_key"];

/// The only bodies a form can send, and so a foreign page without asking first.
const FORMS: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

// === impl Token ===

impl Token {
    /// A token of these characters; `None` when `Authorization: Bearer` cannot hold it.
    pub fn new(text: &str) -> Option<Self> {
        let is_fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then(|| Self(text.into()))
    }

    /// Characters it has; a short one can be guessed.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// Compares in a time that does not tell how much was right.
    fn is(&self, brought: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differs = own.iter().zip(brought).fold(0, |differs, (own, brought)| differs | (own ^ brought));
        std::hint::black_box(differs) == 0 && own.len() == brought.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

// === impl Authority ===

impl Authority {
    /// Of this port; `setting` names where its token is set.
    pub fn of(port: &TcpListener, token: SharedToken, setting: &'static str) -> Self {
        // A port that does not know where it is bound may be bound anywhere.
        let bound = port.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        Self::new(bound, token, setting)
    }

    fn new(bound: IpAddr, token: SharedToken, setting: &'static str) -> Self {
        Self { token, is_local: is_loopback(bound), setting }
    }

    /// Lets a request in, or not.
    ///
    /// A certificate that the port asks for is as good as a token; a token that is set is asked for on every port.
    /// Without either, port and peer must be on loopback.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, request: &Parts, peer: &Peer) -> Result<Caller, Refusal> {
        let query = Query::read(request.uri.query()).unwrap_or_default();
        if query.names().any(|name| TOKEN_PARAMETERS.contains(&name.to_ascii_lowercase().as_str())) {
            return Err(Refusal::TokenInUrl);
        }
        let Peer { address, is_certified, .. } = *peer;
        if is_certified {
            // A browser shows its certificate for any page.
            return own_page(request).map(|()| Caller::Certificate(address));
        }
        if let Some(token) = self.token.load().as_deref() {
            return match bearer(&request.headers) {
                Brought::Nothing => Err(Refusal::NoToken),
                Brought::Token(brought) if token.is(brought) => Ok(Caller::Token(address)),
                Brought::Token(_) | Brought::Unclear => Err(Refusal::WrongToken),
            };
        }
        let is_proxied = OF_PROXIES.iter().any(|name| request.headers.contains_key(*name));
        if !self.is_local || !is_loopback(address.ip()) || is_proxied {
            return Err(Refusal::NotLocal);
        }
        own_host(request)?;
        own_page(request)?;
        Ok(Caller::Loopback(address))
    }

    /// Whether a request that only reads may be answered: where only this machine can reach the port, a foreign page
    /// must not read it by a name bound to this machine.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_reader(&self, request: &Parts) -> Result<(), Refusal> {
        if self.is_local { own_host(request) } else { Ok(()) }
    }

    /// What a refused caller is told.
    pub fn explain(&self, refusal: Refusal) -> String {
        let setting = self.setting;
        let (what, mend) = match refusal {
            Refusal::NoToken => ("a token is needed", "send the header `Authorization: Bearer TOKEN`".to_owned()),
            Refusal::WrongToken => ("this is not the token", format!("send the one of `{setting}`")),
            Refusal::TokenInUrl => (
                "a token in a URL ends up in logs",
                "send the header `Authorization: Bearer TOKEN` instead, and change this token".to_owned(),
            ),
            Refusal::NotLocal => (
                "without a token only this machine is listened to, and only where nobody else can reach the port",
                format!("set `{setting}` (or `{setting}_file`), or bind the port to 127.0.0.1 and ask from there"),
            ),
            Refusal::ForeignHost => (
                "this machine is called by a name that is not its own",
                format!("ask 127.0.0.1, [::1] or localhost, or set `{setting}` and send it"),
            ),
            Refusal::ForeignPage => ("another page asks for this", "use our own page, or a program".to_owned()),
            Refusal::Form => (
                "a form of any page could have sent this",
                format!("send the header `{OWN_HEADER}: 1` as well, or use PUT where there is a body"),
            ),
        };
        format!("{what}\n  mend: {mend}\n")
    }
}

// === impl Refusal ===

impl Refusal {
    /// HTTP's word for it.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::NoToken | Refusal::WrongToken => StatusCode::UNAUTHORIZED,
            Refusal::TokenInUrl => StatusCode::BAD_REQUEST,
            Refusal::NotLocal | Refusal::ForeignHost | Refusal::ForeignPage | Refusal::Form => StatusCode::FORBIDDEN,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Token(peer) => write!(f, "the token's holder at {peer}"),
            Caller::Certificate(peer) => write!(f, "the holder of a good certificate at {peer}"),
            Caller::Loopback(peer) => write!(f, "somebody on this machine at {peer}"),
        }
    }
}

/// What a request brings as a token.
enum Brought<'a> {
    Nothing,
    Token(&'a [u8]),
    /// Two headers, or another scheme.
    Unclear,
}

fn bearer(headers: &HeaderMap) -> Brought<'_> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (all.next(), all.next());
    let Some(value) = first else { return Brought::Nothing };
    match value.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if second.is_none() && scheme.eq_ignore_ascii_case(b"bearer ") => {
            Brought::Token(token.trim_ascii())
        }
        _ => Brought::Unclear,
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Both names a request may call us by are this machine's.
fn own_host(request: &Parts) -> Result<(), Refusal> {
    let in_url = request.uri.authority().map(|authority| authority.as_str());
    let hosts = request.headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    if in_url.into_iter().chain(hosts).all(is_this_machine) { Ok(()) } else { Err(Refusal::ForeignHost) }
}

/// Whether `host` or `host:port` can only mean this machine. A name that merely resolves to it may be anybody's.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(is_loopback)
}

/// What a browser adds says that our own page asks, or nothing at all.
fn own_page(request: &Parts) -> Result<(), Refusal> {
    let said = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let own = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &str| {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host.is_some_and(|host| !own.is_empty() && host.eq_ignore_ascii_case(own))
    };
    if said("origin").is_some_and(|origin| !is_own(origin))
        || said("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"))
    {
        return Err(Refusal::ForeignPage);
    }
    // Old browsers send forms without an `Origin`.
    let media = said("content-type").and_then(|media| media.split(';').next()).map(str::trim);
    let is_form = media.is_some_and(|media| FORMS.iter().any(|form| form.eq_ignore_ascii_case(media)));
    let may_be_a_form = request.method == Method::POST && is_form && !request.headers.contains_key(OWN_HEADER);
    if may_be_a_form { Err(Refusal::Form) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer_at(address: &str) -> Peer {
        Peer { address: address.parse().unwrap(), is_certified: false, watches: Arc::default() }
    }

    #[test]
    fn a_certificate_is_as_good_as_a_token_but_not_for_a_foreign_page() {
        let certified = Peer { is_certified: true, ..peer_at("10.0.0.1:1") };
        let far = authority("0.0.0.0", Some(TOKEN));
        assert!(far.admit(&post("/reload", &[("host", "gateway:9901")]), &certified).is_ok());
        let foreign = post("/reload", &[("host", "gateway:9901"), ("origin", "https://evil.example")]);
        assert_eq!(far.admit(&foreign, &certified), Err(Refusal::ForeignPage));
        assert_eq!(
            far.admit(&post("/reload", &[("host", "gateway:9901")]), &peer_at("10.0.0.1:1")),
            Err(Refusal::NoToken)
        );
    }
    use axum::http::Request;

    const TOKEN: &str = "0123456789abcdef";

    fn authority(bound: &str, token: Option<&str>) -> Authority {
        let token = token.map(|token| Arc::new(Token::new(token).unwrap()));
        Authority::new(bound.parse().unwrap(), Arc::new(ArcSwapOption::new(token)), "admin.token")
    }

    fn post(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::post(uri).header("host", "127.0.0.1:9901");
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    fn judge(authority: &Authority, peer: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        authority.admit(&post("/reload", headers), &peer_at(&format!("{peer}:5000"))).map(|_| ())
    }

    #[test]
    fn a_token_that_is_set_is_asked_for_wherever_the_caller_is() {
        let right = format!("Bearer {TOKEN}");
        for bound in ["127.0.0.1", "0.0.0.0", "10.0.0.1"] {
            let authority = authority(bound, Some(TOKEN));
            for peer in ["127.0.0.1", "10.0.0.9"] {
                let say = |value: &str| judge(&authority, peer, &[("authorization", value)]);
                assert_eq!(judge(&authority, peer, &[]), Err(Refusal::NoToken), "{bound} {peer}");
                assert_eq!(say(&right), Ok(()), "{bound} {peer}");
                assert_eq!(say(&format!("bearer   {TOKEN} ")), Ok(()));
                for wrong in ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", TOKEN] {
                    assert_eq!(say(wrong), Err(Refusal::WrongToken), "{wrong}");
                }
                assert_eq!(say(&format!("Basic {TOKEN}")), Err(Refusal::WrongToken));
            }
        }
        let twice = [("authorization", right.as_str()), ("authorization", "Bearer x")];
        assert_eq!(judge(&authority("127.0.0.1", Some(TOKEN)), "127.0.0.1", &twice), Err(Refusal::WrongToken));
    }

    #[test]
    fn without_a_token_port_and_peer_must_both_be_local() {
        for (bound, peer, is_let_in) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", true),
            ("::1", "[::1]", true),
            ("::ffff:127.0.0.1", "[::ffff:127.0.0.1]", true),
            ("127.0.0.1", "10.0.0.9", false),
            ("0.0.0.0", "127.0.0.1", false),
            ("::", "[::1]", false),
            ("10.0.0.1", "10.0.0.1", false),
        ] {
            let expected = if is_let_in { Ok(()) } else { Err(Refusal::NotLocal) };
            assert_eq!(judge(&authority(bound, None), peer, &[]), expected, "{bound} {peer}");
        }
        for name in OF_PROXIES {
            assert_eq!(judge(&authority("127.0.0.1", None), "127.0.0.1", &[(name, "x")]), Err(Refusal::NotLocal));
        }
    }

    #[test]
    fn a_token_in_the_url_is_refused_even_when_it_is_right() {
        let authority = authority("127.0.0.1", Some(TOKEN));
        let right = format!("Bearer {TOKEN}");
        for name in ["token", "Token", "%74oken", "access_token", "Authorization"] {
            let request = post(&format!("/reload?a=b&{name}={TOKEN}"), &[("authorization", &right)]);
            assert_eq!(authority.admit(&request, &peer_at("127.0.0.1:1")), Err(Refusal::TokenInUrl), "{name}");
        }
    }

    #[test]
    fn a_page_of_another_site_cannot_use_the_browser_of_this_machine() {
        let local = authority("127.0.0.1", None);
        let say = |headers: &[(&str, &str)]| judge(&local, "127.0.0.1", headers);
        assert_eq!(say(&[("origin", "http://127.0.0.1:9901"), ("sec-fetch-site", "same-origin")]), Ok(()));
        for foreign in ["http://evil.example", "null", "http://127.0.0.1:8080", "file://", "http://127.0.0.1:9901.evil"]
        {
            assert_eq!(say(&[("origin", foreign)]), Err(Refusal::ForeignPage), "{foreign}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(say(&[("sec-fetch-site", site)]), Err(Refusal::ForeignPage), "{site}");
        }
        for form in ["text/plain", "application/x-www-form-urlencoded; charset=utf-8", "Multipart/Form-Data"] {
            assert_eq!(say(&[("content-type", form)]), Err(Refusal::Form), "{form}");
            assert_eq!(say(&[("content-type", form), ("x-switchyard", "1")]), Ok(()));
        }
        assert_eq!(say(&[("content-type", "application/json")]), Ok(()));
    }

    #[test]
    fn a_name_bound_to_this_machine_by_somebody_else_is_refused() {
        let local = authority("127.0.0.1", None);
        let by = |host: &str| {
            let request = Request::post("/reload").header("host", host).body(()).unwrap().into_parts().0;
            (local.admit(&request, &peer_at("127.0.0.1:1")).err(), local.admit_reader(&request).err())
        };
        for own in ["127.0.0.1", "127.0.0.1:9901", "localhost:9901", "LocalHost.", "[::1]:9901", "127.8.8.8"] {
            assert_eq!(by(own), (None, None), "{own}");
        }
        for foreign in ["evil.example:9901", "localhost.evil.example", "10.0.0.1", "", "[::2]:9901", "127.0.0.1.nip.io"]
        {
            assert_eq!(by(foreign), (Some(Refusal::ForeignHost), Some(Refusal::ForeignHost)), "{foreign}");
        }
        // The name in an absolute URL counts as well.
        let absolute = post("http://evil.example/reload", &[]);
        assert_eq!(local.admit(&absolute, &peer_at("127.0.0.1:1")), Err(Refusal::ForeignHost));
        // Who brings the token is no page, whatever it calls us.
        let request = Request::post("/reload")
            .header("host", "switchyard.example")
            .header("authorization", format!("Bearer {TOKEN}"));
        let request = request.body(()).unwrap().into_parts().0;
        assert!(authority("127.0.0.1", Some(TOKEN)).admit(&request, &peer_at("10.0.0.1:1")).is_ok());
    }

    #[test]
    fn a_token_is_never_shown() {
        assert!(!format!("{:?}", Token::new(TOKEN).unwrap()).contains(TOKEN));
        assert!(["", "a b", "a\nb", "ü"].iter().all(|text| Token::new(text).is_none()));
    }
}
