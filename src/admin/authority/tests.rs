//! Who is let in: tokens, certificates, this machine, and nobody who speaks for a foreign page.

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
    assert_eq!(far.admit(&post("/reload", &[("host", "gateway:9901")]), &peer_at("10.0.0.1:1")), Err(Refusal::NoToken));
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
    for foreign in ["http://evil.example", "null", "http://127.0.0.1:8080", "file://", "http://127.0.0.1:9901.evil"] {
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
    for foreign in ["evil.example:9901", "localhost.evil.example", "10.0.0.1", "", "[::2]:9901", "127.0.0.1.nip.io"] {
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
