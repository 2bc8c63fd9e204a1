//! Backends by a DNS name: its addresses, or the services its SRV records name.

mod ask;
mod pace;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::{Announcer, Trouble};
use crate::pool::found::Found;
use ask::Asker;
use pace::Pace;
use reading::{Memory, Records};

/// Which name is asked for what, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name, in lower case; one that ends in a dot is never looked for in search domains.
    pub name: String,
    /// What is asked for.
    pub question: Question,
    /// The DNS server that is asked; `None`: those of the system.
    pub resolver: Option<SocketAddr>,
}

/// What a DNS name is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A and AAAA: each address is a backend on this port.
    Addresses {
        /// The port of all of them.
        port: u16,
    },
    /// SRV: each record names a host, its port, weight and priority.
    Services,
}

/// Longest a look may take, whatever the system's own patience: several servers, several packets, several search domains.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);

/// Hosts of SRV records that are asked for at a time.
const HOSTS_AT_A_TIME: usize = 16;

/// Follows a name for ever.
pub async fn follow(settings: Settings, mut announcer: Announcer) {
    let (mut memory, mut pace) = (Memory::default(), Pace::default());
    loop {
        let looked = tokio::time::timeout(LOOK_DEADLINE, look(&settings, &mut memory)).await;
        let silent = || Err(Trouble::Failed(format!("{}: no DNS server answers", settings.name)));
        let wait = match looked.unwrap_or_else(|_| silent()) {
            Ok((all, fresh_for)) => {
                announcer.found(all);
                pace.after_answer(fresh_for, fastrand::f64())
            }
            Err(trouble) => {
                announcer.failed(trouble);
                pace.after_trouble(fastrand::f64())
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Asks once: all backends, and how long they are known to be right.
async fn look(settings: &Settings, memory: &mut Memory) -> Result<(Vec<Found>, Duration), Trouble> {
    let asker = Asker::new(settings.resolver).map_err(Trouble::Failed)?;
    match settings.question {
        Question::Addresses { port } => {
            let answers = asker.addresses(&settings.name).await;
            let (addresses, fresh_for) = memory.addresses(&settings.name, answers)?;
            Ok((reading::of_addresses(&settings.name, port, &addresses), fresh_for))
        }
        Question::Services => look_for_services(&settings.name, &asker, memory).await,
    }
}

async fn look_for_services(name: &str, asker: &Asker, memory: &mut Memory) -> Result<(Vec<Found>, Duration), Trouble> {
    let (services, mut fresh_for) = match asker.services(name).await {
        Records::Some { all, fresh_for } => (all, fresh_for),
        Records::None => return Err(Trouble::Empty(format!("{name} has no SRV record"))),
        Records::Failed(why) => return Err(Trouble::Failed(format!("{name}: {why}"))),
    };
    let hosts: BTreeSet<&str> =
        services.iter().map(|service| service.host.as_str()).filter(|host| *host != ".").collect();
    memory.keep(&hosts);
    let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
    let ask = |host: String| async move {
        let answers = asker.addresses(&host).await;
        (host, answers)
    };
    let answers: Vec<_> = stream::iter(hosts).map(ask).buffer_unordered(HOSTS_AT_A_TIME).collect().await;
    let mut addresses = BTreeMap::new();
    for (host, answers) in answers {
        let known = match memory.addresses(&host, answers) {
            Ok((all, so_long)) => {
                fresh_for = fresh_for.min(so_long);
                all
            }
            // It is named, so it is wanted: it keeps the addresses it had.
            Err(Trouble::Failed(_)) => {
                fresh_for = Duration::ZERO;
                memory.known(&host)
            }
            Err(Trouble::Empty(_)) => Vec::new(),
        };
        addresses.insert(host, known);
    }
    match reading::of_services(&services, &addresses) {
        all if all.is_empty() => Err(Trouble::Empty(format!("no host that {name} names has an address"))),
        all => Ok((all, fresh_for)),
    }
}

// === impl Settings ===

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolver = self.resolver.map(|resolver| resolver.to_string()).unwrap_or_default();
        match self.question {
            Question::Addresses { port } => write!(f, "dns://{resolver}/{}:{port}", self.name),
            Question::Services => write!(f, "dns+srv://{resolver}/{}", self.name),
        }
    }
}
