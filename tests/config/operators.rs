//! Who may use the ports of operators, as it is written and as it is wrong.

use std::fs;

use switchyard::admin::Token;
use switchyard::config::{Overrides, load};

use super::{assert_says, plan, read, read_with, said};

const TOKEN: &str = "0123456789abcdef";

#[test]
fn tokens_come_from_the_file_the_environment_or_a_file_beside_it() {
    let text =
        "to: a:1\nlisten: { admin: 0.0.0.0:1, endpoints: 9 }\nadmin: { token: '${T}' }\nendpoints: { token: '${T}' }";
    let (plan, warnings) = read_with(text, &[], &[("T", TOKEN)]).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((plan.admin_token.clone(), plan.endpoints_token.clone()), (Token::new(TOKEN), Token::new(TOKEN)));
    assert_eq!(plan.endpoints.unwrap().to_string(), "0.0.0.0:9");
    assert!(!format!("{plan:?} {:?}", plan.describe()).contains(TOKEN));

    let directory = std::env::temp_dir().join(format!("switchyard-operators-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("one.token"), format!("{TOKEN}\n")).unwrap();
    fs::write(directory.join("empty.token"), "\n").unwrap();
    let file = |name: &str| {
        let text = format!("to: a:1\nadmin: {{ token_file: {name} }}");
        load(&text, directory.join("switchyard.yaml").to_str().unwrap(), &Overrides::default())
    };
    assert_eq!(file("one.token").unwrap().0.admin_token, Token::new(TOKEN));
    assert!(said(file("empty.token")).contains("error: admin.token_file: there is no token in empty.token"));
    let told = said(file("none.token"));
    assert!(told.contains("cannot read none.token") && told.contains("it is looked for in"), "{told}");
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn without_a_token_only_this_machine_is_listened_to() {
    let plan = plan("to: a:1\nlisten: { endpoints: 127.0.0.1:9903 }\nadmin: {}\nendpoints: {}");
    assert_eq!((plan.admin_token, plan.endpoints_token), (None, None));
    let expected = "
switchyard.yaml:2:18: warning: listen.admin: others can reach this port and there is no token: they can read /snapshot, and every command is refused
  2 | listen: { admin: 0.0.0.0:9901, endpoints: 0.0.0.0:9903 }
    |                  ^^^^^^^^^^^^
  mend: set `admin.token` or `admin.token_file`, or listen on 127.0.0.1
switchyard.yaml:2:43: error: listen.endpoints: others can reach this port and there is no token: nobody would be answered
  2 | listen: { admin: 0.0.0.0:9901, endpoints: 0.0.0.0:9903 }
    |                                           ^^^^^^^^^^^^
  mend: set `endpoints.token` or `endpoints.token_file`, or listen on 127.0.0.1
";
    assert_says("to: a:1\nlisten: { admin: 0.0.0.0:9901, endpoints: 0.0.0.0:9903 }", expected);
}

#[test]
fn tokens_that_are_none_too_short_or_open_nothing() {
    let expected = "
switchyard.yaml:2:17: warning: admin.token: a token of 5 characters can be guessed
  2 | admin: { token: ***** }
    |                 ^^^^^
  mend: use 16 or more, as of `openssl rand -hex 16`
";
    assert_says("to: a:1\nadmin: { token: short }", expected);
    for (text, says) in [
        ("admin: { token: 'two words are none' }", "error: admin.token: is no token that a header can hold"),
        (
            "endpoints: { token: 0123456789abcdef }",
            "warning: endpoints.token: listen.endpoints is off: the token opens nothing",
        ),
        ("admin: { token: 0123456789abcdef, token_file: x }", "error: admin.token_file: `token` is set already"),
        ("admin: { tokn: 0123456789abcdef }", "did you mean `token`?"),
        ("admin: 0123456789abcdef", "error: admin: is a group of settings, not a value"),
        (
            "listen: { endpoints: 11800 }\nendpoints: { token: 0123456789abcdef }",
            "error: listen.endpoints: port 11800 is taken",
        ),
    ] {
        let told = said(read(&format!("to: a:1\n{text}")));
        assert!(told.contains(says), "{text}\n--- said\n{told}");
        assert!(!told.contains(TOKEN) && !told.contains("two words"), "{text}\n--- said\n{told}");
    }
}
