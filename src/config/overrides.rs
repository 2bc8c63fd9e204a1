//! Flags that win over the file.

use super::draft::{self, Draft};
use super::problem::Findings;
use super::section::word;
use super::{address, keys, sources};

/// The settings that have flags. They are text: what is wrong in them is told together with everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Overrides {
    /// Where to send: backends with commas between them, or a source such as dns:///name:port
    #[arg(long, value_name = "HOST:PORT,...")]
    pub to: Option<String>,
    /// Port for every flow: ip:port, a port alone, or off
    #[arg(long, value_name = "ADDRESS")]
    pub agents: Option<String>,
    /// Port for Envoy access logs only
    #[arg(long, value_name = "ADDRESS")]
    pub access_logs: Option<String>,
    /// Port for metrics services only
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,
    /// Port for Prometheus: /metrics, /ready, /live
    #[arg(long, value_name = "ADDRESS")]
    pub prometheus: Option<String>,
    /// Port for /snapshot, /ready, /live; a port alone is opened on 127.0.0.1
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// When a call is answered OK: received or delivered
    #[arg(long, value_name = "WHEN")]
    pub reply: Option<String>,
}

impl Overrides {
    /// To these backends, and every port any one of loopback's that is free: for gateways in somebody's own process.
    pub fn on_free_ports(to: impl Into<String>) -> Self {
        let free = || Some("127.0.0.1:0".to_owned());
        Self {
            to: Some(to.into()),
            agents: free(),
            access_logs: free(),
            metrics: free(),
            prometheus: free(),
            admin: free(),
            reply: None,
        }
    }

    /// Puts the flags over the draft.
    pub(super) fn apply(&self, draft: &mut Draft<'_>, findings: &mut Findings<'_>) {
        let flags = [&self.agents, &self.access_logs, &self.metrics, &self.prometheus, &self.admin];
        for (text, listen) in flags.into_iter().zip(&mut draft.listen) {
            let Some(text) = text else { continue };
            let flag = format!("--{}", listen.name.replace('_', "-"));
            findings.remember(&format!("listen.{}", listen.name), &flag, None);
            match address::listen(text, listen.usual) {
                Ok(address) => listen.address = address,
                Err(mistake) => findings.error(None, &flag, mistake),
            }
        }
        if let Some(text) = &self.to {
            findings.remember("to", "--to", None);
            draft.pools.default.set_backing(sources::of_flag(text, findings));
        }
        if let Some(text) = &self.reply {
            match word(text.trim(), keys::REPLY) {
                Ok(word) => draft.reply = draft::reply(word),
                Err(mistake) => findings.error(None, "--reply", mistake),
            }
        }
    }
}
