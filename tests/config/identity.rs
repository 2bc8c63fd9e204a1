//! Who may call; and that no token is ever shown.

use proptest::prelude::*;
use switchyard::listener::identity::{Identity, Tokens};

use super::{assert_says, plan, read, read_with, said};

#[test]
fn tokens_and_tenants_become_the_plans_identity() {
    let text =
        "to: a:1\nidentity: { tokens: ['${NEW}', '${OLD}'], missing_token: accept, separate_by: [X-Tenant, org-bin] }";
    let (plan, warnings) = read_with(text, &[], &[("NEW", "n3w-token"), ("OLD", "0ld-token")]).unwrap();
    assert_eq!(warnings, []);
    let Tokens { accepted, may_be_missing } = plan.identity.tokens.clone().unwrap();
    assert_eq!(accepted, ["n3w-token", "0ld-token"]);
    assert!(may_be_missing && accepted.iter().all(|token| token.is_sensitive()));
    assert_eq!(plan.identity.separate_by, ["x-tenant", "org-bin"]);
    let shown = format!("{plan:?} {} {}", plan.describe().join(" "), plan.summary());
    assert!(!shown.contains("n3w-token") && !shown.contains("0ld-token"), "{shown}");
}

#[test]
fn without_tokens_everybody_may_call() {
    assert_eq!(plan("to: a:1\nidentity: { tokens: [] }").identity, Identity::default());
    let one = plan("to: a:1\nidentity: { tokens: only-one }").identity.tokens.unwrap();
    assert_eq!((one.accepted.len(), one.may_be_missing), (1, false));
}

#[test]
fn what_cannot_be_a_token_or_keep_callers_apart() {
    let text = "
to: a:1
identity:
  tokens: [same, same, \"li\\nne-2\", '${TOKEN}', [a]]
  missing_token: no
  separate_by: [grpc-timeout, TE, authentication, 'x y', x-tenant, X-Tenant]
";
    let told = said(read(text));
    for line in [
        "error: identity.tokens[1]: is one of the tokens above",
        "error: identity.tokens[2]: is no token that metadata can hold",
        "error: identity.tokens[3]: is empty: the variable TOKEN is not set",
        "error: identity.tokens[4]: takes one value, not a list",
        "error: identity.missing_token: \"no\" is not one of refuse, accept",
        "error: identity.separate_by: `grpc-timeout` is gRPC's own and says nothing of who calls",
        "error: identity.separate_by: `te` is gRPC's own and says nothing of who calls",
        "error: identity.separate_by: `authentication` keeps callers apart anyway",
        "error: identity.separate_by: \"x y\" cannot be the name of metadata",
        "error: identity.separate_by: x-tenant is named twice",
    ] {
        assert!(told.contains(line), "{line}\n--- in\n{told}");
    }
    assert!(!told.contains("same") && !told.contains("ne-2"), "{told}");
}

#[test]
fn a_token_that_is_missed_by_nobody() {
    let expected = "
switchyard.yaml:2:28: warning: identity.missing_token: no token can be missing where none is asked for
  2 | identity: { missing_token: accept }
    |                            ^^^^^^
  mend: write `tokens:`, or remove this
";
    assert_says("to: a:1\nidentity: { missing_token: accept }", expected);
}

#[test]
fn a_line_with_a_token_is_shown_without_it() {
    let expected = "
switchyard.yaml:2:35: error: pool.trip: is a group of settings, not a value
  2 | pool: { authentication: ********, trip: 5 }
    |                                         ^
  mend: write `trip:` and its settings below it, indented
";
    let told = said(read("to: a:1\npool: { authentication: hunter22, trip: 5 }"));
    assert_eq!(told.replace(":41:", ":35:"), expected.trim_matches('\n'));
}

/// Ways to break a file that has a token in it.
const BROKEN: [&str; 15] = [
    "identity: { tokns: [SECRET] }",
    "identity: { tokens: SECRET, separate_by: [te] }",
    "identity: { tokens: [SECRET",
    "identity:\n  tokens:\n  - SECRET\n  - \"SECRET",
    "identity:\n  tokens:\n  - SECRET: 1\n",
    "identity:\n  tokens:\n    - ${VAR:SECRET}\n",
    "authentication: SECRET",
    "pool: { authentication: { SECRET: SECRET } }",
    "pool: { authentication: SECRET, authentication: SECRET }",
    "pools: { a: { endpoints: b:1, authentication: ${UNSET:?SECRET} } }",
    "pool:\n  authentication: |\n    SECRET\n    SECRET\n  trip: 5\n",
    "routes: [ { metadata: { authentication: { regex: 'SECRET(' } }, to: nowhere } ]",
    "routes: [ { metadata: { authorization: SECRET }, drp: x } ]",
    "admin: { tokn: SECRET }",
    "listen: { admin: off }\nendpoints:\n  token: [SECRET]\n  token_file: x",
];

#[test]
fn no_message_shows_a_token_however_the_file_is_broken() {
    let anchored = "x: &t SECRET\npool: { authentication: *t, trip: *t }";
    for text in BROKEN.into_iter().chain([anchored]) {
        let text = format!("to: a:1\n{}", text.replace("SECRET", "hunter22"));
        let told = said(read(&text));
        assert!(!told.contains("hunter22"), "{text}\n--- said\n{told}");
        assert!(!told.is_empty(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_message_shows_a_token_wherever_junk_stands(broken in prop::sample::select(&BROKEN[..]), at in 0usize..200, junk in "[\\[\\]{}:,\"'*|> \t-]{1,3}") {
        let mut text = format!("to: a:1\n{}\nworkers: x\n", broken.replace("SECRET", "hunter22"));
        let at = at % (text.len() + 1);
        // Junk in the middle of a token or of its name makes another thing of it; so do anchors and line ends.
        let before = text[..at].rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| at + 1);
        text.insert_str(before, &junk);
        let told = said(read(&text));
        prop_assert!(!told.contains("hunter22"), "{}\n--- said\n{}", text, told);
    }
}
