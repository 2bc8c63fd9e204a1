//! TLS in a config: what is said of its files, and what does not go together.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use switchyard::config::{Overrides, Plan, Problem, load};

use super::authority::Authority;
use super::{plan, said};

/// A directory with a config's certificates; removed when dropped.
struct Directory(PathBuf);

const DAY: Duration = Duration::from_secs(86_400);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("switchyard-tls-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for temporary files");
        let authority = Authority::new("ours");
        authority.sign(&["gateway.local"]).write(&path, "tls");
        authority.sign(&["other.local"]).write(&path, "other");
        authority.sign_expired(&["gateway.local"]).write(&path, "old");
        // Half a day over, so that the days left are the same however long the test takes.
        authority.sign_for(&["gateway.local"], 3 * DAY + DAY / 2).write(&path, "soon");
        let write = |name: &str, text: &str| fs::write(path.join(name), text).expect("a file of its own");
        write("ca.crt", authority.pem());
        write("empty", "");
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        write("locked.key", encrypted);
        Self(path)
    }

    fn load(&self, text: &str) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
        load(text, &self.0.join("switchyard.yaml").display().to_string(), &Overrides::default())
    }

    /// What is said, each with its mend on a line of its own, without snippets and the directory.
    fn told(&self, text: &str) -> String {
        let all = said(self.load(text)).replace(&format!("{}/", self.0.display()), "");
        let lines = all.lines().filter(|line| !line.contains(" | ") && !line.trim_end().ends_with('|'));
        lines.filter(|line| !line.trim_start().starts_with('|')).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn assert_told(&self, text: &str, expected: &str) {
        let told = self.told(text);
        assert!(told == expected.trim_matches('\n'), "\n--- told\n{told}\n--- expected\n{expected}");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn ports_and_pools_with_tls_are_read_and_shown_without_their_keys() {
    let directory = Directory::new("sound");
    let text = "
to: a:1
listen:
  agents: { address: 127.0.0.1:1, tls: { certificate: tls.crt, key: tls.key, client_ca: ca.crt, allow: '*.agents.local' } }
  access_logs: { tls: { certificate: tls.crt, key: tls.key } }
  prometheus: { address: 2, tls: { certificate: tls.crt, key: tls.key } }
pool: { tls: { ca: ca.crt, certificate: tls.crt, key: tls.key, server_name: collector.local } }
pools: { tail: { endpoints: b:1, tls: { ca: ca.crt } }, plain: { endpoints: c:1, tls: false } }
";
    let (plan, warnings) = directory.load(text).unwrap_or_else(|problems| panic!("{}", said(Err(problems))));
    assert_eq!(warnings, []);
    let lines = plan.describe().join("\n");
    for line in [
        "agents       127.0.0.1:1           every flow, mTLS",
        "access_logs  0.0.0.0:11802         access logs only, TLS",
        "metrics      0.0.0.0:11803         metrics only, no TLS",
        "prometheus   0.0.0.0:2             /metrics /ready /live, TLS",
        "admin        127.0.0.1:9901        /snapshot /ready /live",
        "pool         1 backend by mTLS by least_load: a:1",
        "pool tail    1 backend by TLS by least_load: b:1",
        "pool plain   1 backend by least_load: c:1",
    ] {
        assert!(lines.lines().any(|shown| shown == line), "no {line:?} in\n{lines}");
    }
    let shown = format!("{plan:?}");
    let key = fs::read_to_string(directory.0.join("tls.key")).unwrap();
    for line in key.lines().filter(|line| !line.starts_with("---")) {
        assert!(!shown.contains(line), "{shown}");
    }
    assert_eq!(directory.load(text).unwrap().0.pools, plan.pools, "the same files make the same settings");
    assert_eq!(directory.load(text).unwrap().0.listeners, plan.listeners);
}

#[test]
fn a_pool_may_just_say_true_where_the_machine_trusts_somebody() {
    let told = said(super::read("to: a:1\npool: { tls: true }"));
    assert!(told.is_empty() || told.contains("pool.tls.ca: this machine trusts no authority"), "{told}");
    assert!(plan("to: a:1\npool: { tls: false }").pools[0].tls.is_none());
}

#[test]
fn what_is_wrong_with_files_is_told_at_each_of_them() {
    let directory = Directory::new("files");
    directory.assert_told(
        "to: a:1\nlisten:\n  agents:\n    tls:\n      certificate: gone.crt\n      key: empty\n      client_ca: tls.key\n",
        "
switchyard.yaml:5:20: error: listen.agents.tls.certificate: cannot read gone.crt: No such file or directory (os error 2)
  mend: name a PEM file that the gateway may read
switchyard.yaml:6:12: error: listen.agents.tls.key: empty has no private key
  mend: write a PEM file, with a line -----BEGIN PRIVATE KEY-----
switchyard.yaml:7:18: error: listen.agents.tls.client_ca: tls.key has no certificate
  mend: it has a private key: were the files swapped?",
    );
    directory.assert_told(
        "to: a:1\nlisten:\n  agents: { tls: { certificate: tls.crt, key: other.key } }\n  metrics: { tls: { certificate: old.crt, key: old.key } }\n  admin: { tls: { certificate: tls.crt, key: locked.key } }\n",
        "
switchyard.yaml:3:47: error: listen.agents.tls.key: other.key is not the key of tls.crt
  mend: write the two files that were made together
switchyard.yaml:4:34: error: listen.metrics.tls.certificate: old.crt expired on 2020-02-29
  mend: have it renewed
switchyard.yaml:5:46: error: listen.admin.tls.key: locked.key has no private key
  mend: it is encrypted: write it without a passphrase, as `openssl pkey` does",
    );
    directory.assert_told(
        "to: a:1\npool:\n  tls:\n    ca: empty\n    certificate: tls.key\n    key: tls.crt\n",
        "
switchyard.yaml:4:9: error: pool.tls.ca: empty has no certificate
  mend: write a PEM file, with a line -----BEGIN CERTIFICATE-----
switchyard.yaml:5:18: error: pool.tls.certificate: tls.key has no certificate
  mend: it has a private key: were the files swapped?
switchyard.yaml:6:10: error: pool.tls.key: tls.crt has no private key
  mend: it has a certificate: were the files swapped?",
    );
}

#[test]
fn a_certificate_that_soon_expires_is_a_warning() {
    let directory = Directory::new("soon");
    directory.assert_told(
        "to: a:1\npool: { tls: { ca: ca.crt, certificate: soon.crt, key: soon.key } }",
        "
switchyard.yaml:2:41: warning: pool.tls.certificate: soon.crt expires in 3 days
  mend: have it renewed; a new file is taken without a restart",
    );
}

#[test]
fn what_does_not_go_together_is_told_with_its_mend() {
    let directory = Directory::new("together");
    directory.assert_told(
        "to: a:1\nlisten:\n  agents: { tls: {} }\n  metrics: { tls: { certificate: tls.crt } }\n  admin: { tls: { certificate: tls.crt, key: tls.key, client_certificate: optional, allow: [a] } }\n",
        "
switchyard.yaml:3:18: error: listen.agents.tls: a port needs a certificate of its own to speak TLS
  mend: write `certificate: FILE` and `key: FILE` under it
switchyard.yaml:4:34: error: listen.metrics.tls.certificate: there is a certificate and no key
  mend: write `key: FILE` as well
switchyard.yaml:5:75: error: listen.admin.tls.client_certificate: nobody is asked for a certificate: there is no `client_ca`
  mend: write `client_ca: FILE` with the authority of the agents, or remove this
switchyard.yaml:5:92: error: listen.admin.tls.allow: nobody is asked for a certificate: there is no `client_ca`
  mend: write `client_ca: FILE` with the authority of the agents, or remove this",
    );
    directory.assert_told(
        "to: a:1\nlisten:\n  agents: { tls: { certificate: tls.crt, key: tls.key, client_ca: ca.crt, client_certificate: optional, allow: [a] } }\npool: { tls: { ca: ca.crt, verify: false } }",
        "
switchyard.yaml:3:112: warning: listen.agents.tls.allow: who shows no certificate is let in, whatever this says
  mend: write `client_certificate: required` once all agents have one
switchyard.yaml:4:20: warning: pool.tls.ca: it is not looked at: `verify` is false
  mend: remove `verify: false`
switchyard.yaml:4:36: warning: pool.tls.verify: anybody between here and the backends can read and change what is sent
  mend: remove this and name the authority of the backends in `ca`",
    );
    directory.assert_told(
        "to: a:1\npool: { server_name: a, tls: { server_name: 'a:1', key: tls.key } }\npools: { tail: { endpoints: 'https://b:1', tls: maybe } }",
        "
switchyard.yaml:2:9: error: pool.server_name: there is no such setting
  mend: it is `pool.tls.server_name`: write it there
switchyard.yaml:2:45: error: pool.tls.server_name: no certificate can be for \"a:1\"
  mend: write a DNS name or an IP address as the certificate has it, without a port
switchyard.yaml:2:57: error: pool.tls.key: there is a key and no certificate
  mend: write `certificate: FILE` as well
switchyard.yaml:3:30: error: pools.tail.endpoints: \"https://\" does not belong to a backend's address
  mend: write b:1, and `tls: true` under the settings of its pool
switchyard.yaml:3:49: error: pools.tail.tls: \"maybe\" is not one of false, true
  mend: write one of false, true",
    );
}

#[test]
fn a_key_in_place_of_its_file_is_not_shown() {
    let directory = Directory::new("inline");
    let key = fs::read_to_string(directory.0.join("tls.key")).expect("a file of its own");
    let quoted = key.trim().replace('\n', "\\n");
    let block = key.trim().replace('\n', "\n          ");
    for text in [
        format!("to: a:1\nlisten: {{ agents: {{ tls: {{ certificate: tls.crt, key: \"{quoted}\" }} }} }}"),
        format!("to: a:1\nlisten:\n  agents:\n    tls:\n      certificate: tls.crt\n      key: |\n          {block}\n"),
    ] {
        let told = said(directory.load(&text));
        assert!(told.contains("takes the name of a file, not what is in it"), "{told}");
        for secret in key.lines().filter(|line| !line.starts_with("---")) {
            assert!(!told.contains(&secret[..8]), "{told}");
        }
    }
}
