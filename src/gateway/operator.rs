//! Does what an operator says: to a backend at once, to the whole process by asking whoever runs it.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::admin::{Command, Fault, Obey, Target};
use crate::config::nearest;
use crate::pool::Backends;
use crate::pool::backend::Backend;

/// What only whoever runs the gateway can do. The answer goes to the operator.
#[derive(Debug)]
pub enum Request {
    /// Read the config again and run what it says.
    Reload(oneshot::Sender<Result<String, Fault>>),
    /// Drain and end.
    Drain(oneshot::Sender<Result<String, Fault>>),
    /// Log as much as this says.
    LogLevel(String, oneshot::Sender<Result<String, Fault>>),
}

/// Carries out commands.
pub struct Operator {
    /// The pools there are now.
    pools: Box<dyn Fn() -> Vec<Arc<Backends>> + Send + Sync>,
    /// Whoever runs the gateway, once it listens.
    runner: OnceLock<mpsc::Sender<Request>>,
}

/// Names listed where one was not found.
const NAMES_SHOWN: usize = 20;

// === impl Operator ===

impl Operator {
    pub fn new(pools: impl Fn() -> Vec<Arc<Backends>> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { pools: Box::new(pools), runner: OnceLock::new() })
    }

    /// From now on what only it can do is asked of this runner; the first one stays.
    pub fn ask(&self, runner: mpsc::Sender<Request>) {
        let _ = self.runner.set(runner);
    }

    /// As the admin port wants it.
    pub fn obey(self: &Arc<Self>) -> Obey {
        let operator = Arc::clone(self);
        Arc::new(move |command| -> BoxFuture<'static, _> {
            let operator = Arc::clone(&operator);
            Box::pin(async move { operator.carry_out(command).await })
        })
    }

    async fn carry_out(&self, command: Command) -> Result<String, Fault> {
        match command {
            Command::DrainBackend(target) => self.drain(&target),
            Command::UndrainBackend(target) => self.undrain(&target),
            Command::Reload => self.request(Request::Reload).await,
            Command::Drain => self.request(Request::Drain).await,
            Command::LogLevel(level) => self.request(|answer| Request::LogLevel(level, answer)).await,
        }
    }

    fn drain(&self, target: &Target) -> Result<String, Fault> {
        let (pool, backend) = self.find(target)?;
        backend.drain();
        let figures = backend.figures();
        let mut said = format!(
            "{} of pool {} gets nothing more; {} messages are not yet answered for\n",
            figures.name,
            pool.settings().name,
            figures.in_flight_messages
        );
        if !pool.all().iter().any(|backend| backend.is_up()) {
            said.push_str("no backend of the pool is up now: messages wait, and agents are held back\n");
        }
        Ok(said)
    }

    fn undrain(&self, target: &Target) -> Result<String, Fault> {
        let (pool, backend) = self.find(target)?;
        backend.undrain();
        let figures = backend.figures();
        let name = &pool.settings().name;
        Ok(match figures.state {
            "up" => format!("{} of pool {name} gets messages again\n", figures.name),
            state => format!("{} of pool {name} is not drained any more, but {state}\n", figures.name),
        })
    }

    /// The one backend that is meant.
    fn find(&self, target: &Target) -> Result<(Arc<Backends>, Arc<Backend>), Fault> {
        let pools: Vec<(String, Arc<Backends>)> =
            (self.pools)().into_iter().map(|pool| (pool.settings().name.clone(), pool)).collect();
        if let Some(asked) = target.pool.as_ref().filter(|asked| !pools.iter().any(|(name, _)| name == *asked)) {
            return Err(unknown("pool", asked, pools.iter().map(|(name, _)| name.clone()).collect()));
        }
        let pools: Vec<_> =
            pools.into_iter().filter(|(name, _)| target.pool.as_ref().is_none_or(|asked| asked == name)).collect();
        let mut found: Vec<_> = pools
            .iter()
            .filter_map(|(name, pool)| pool.find(&target.backend).map(|backend| (name.as_str(), pool, backend)))
            .collect();
        match (found.pop(), found.is_empty()) {
            (Some((_, pool, backend)), true) => Ok((Arc::clone(pool), backend)),
            (Some((last, ..)), false) => {
                let names: Vec<&str> = found.iter().map(|(name, ..)| *name).chain([last]).collect();
                let (backend, names) = (&target.backend, names.join(", "));
                Err(Fault::Ambiguous(format!(
                    "several pools have a backend {backend}: {names}\n  mend: add ?pool=NAME with one of them"
                )))
            }
            (None, _) => {
                let all = pools.iter().flat_map(|(_, pool)| pool.all().iter().cloned().collect::<Vec<_>>());
                Err(unknown("backend", &target.backend, all.map(|backend| backend.name().to_owned()).collect()))
            }
        }
    }

    /// Asks whoever runs the gateway.
    async fn request(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<String, Fault>>) -> Request,
    ) -> Result<String, Fault> {
        let nobody = || Fault::Impossible("whoever runs this gateway does not take commands".to_owned());
        let (answer, answered) = oneshot::channel();
        let runner = self.runner.get().ok_or_else(nobody)?;
        // Full: commands come faster than they can be carried out.
        runner.try_send(request(answer)).map_err(|_| Fault::Impossible("another command is under way".to_owned()))?;
        answered.await.map_err(|_| nobody())?
    }
}

/// There is no such name: which there are, and which was likely meant.
fn unknown(what: &str, name: &str, mut names: Vec<String>) -> Fault {
    names.dedup();
    let mut said = format!("there is no {what} \"{}\"", crate::admin::snapshot::printable(name.as_bytes()));
    if let Some(meant) = nearest(name, names.iter().map(String::as_str)) {
        said.push_str(&format!("; did you mean {meant}?"));
    }
    let more = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    said.push_str(&format!("\n  there is {}", names.join(", ")));
    if more > 0 {
        said.push_str(&format!(" and {more} more"));
    }
    Fault::Unknown(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Endpoint, Settings};

    fn pool(name: &str, hosts: &[&str]) -> Arc<Backends> {
        let endpoint = |host: &&str| Endpoint { host: (*host).to_owned(), port: 1 };
        Backends::new(Settings::new(name, hosts.iter().map(endpoint).collect()))
    }

    fn target(backend: &str, pool: Option<&str>) -> Target {
        Target { backend: backend.to_owned(), pool: pool.map(str::to_owned) }
    }

    #[tokio::test]
    async fn a_backend_is_found_by_its_name_and_where_needed_its_pool() {
        let pools = [pool("oap", &["a", "b"]), pool("tail", &["b", "c"])];
        let all = pools.to_vec();
        let operator = Operator::new(move || all.clone());
        let drain = |name: &str, pool: Option<&str>| operator.carry_out(Command::DrainBackend(target(name, pool)));
        assert!(drain("a:1", None).await.unwrap().starts_with("a:1 of pool oap gets nothing more; 0 messages"));
        assert!(!pools[0].find("a:1").unwrap().is_up());
        assert!(matches!(drain("b:1", None).await, Err(Fault::Ambiguous(said)) if said.contains("oap, tail")));
        assert!(drain("b:1", Some("tail")).await.is_ok());
        assert!(pools[0].find("b:1").unwrap().is_up() && !pools[1].find("b:1").unwrap().is_up());
        let said = drain("c:1", None).await.unwrap();
        assert!(said.contains("no backend of the pool is up"), "{said}");
        let Err(Fault::Unknown(said)) = drain("c:1", Some("oap")).await else { panic!("tail has it, oap has not") };
        assert!(said.ends_with("there is a:1, b:1"), "{said}");
        assert!(matches!(drain("a:1", Some("oop")).await, Err(Fault::Unknown(said)) if said.contains("mean oap?")));
        operator.carry_out(Command::UndrainBackend(target("a:1", None))).await.unwrap();
        assert!(pools[0].find("a:1").unwrap().is_up());
    }

    #[tokio::test]
    async fn what_nobody_can_do_is_not_waited_for() {
        let operator = Operator::new(Vec::new);
        assert!(matches!(operator.carry_out(Command::Reload).await, Err(Fault::Impossible(_))));
        let (runner, mut requests) = mpsc::channel(1);
        operator.ask(runner);
        let carried_out = operator.carry_out(Command::LogLevel("debug".to_owned()));
        let runner = async {
            let Some(Request::LogLevel(level, answer)) = requests.recv().await else { panic!("a level was sent") };
            answer.send(Ok(level)).unwrap();
        };
        assert_eq!(tokio::join!(carried_out, runner).0, Ok("debug".to_owned()));
        drop(requests);
        assert!(matches!(operator.carry_out(Command::Drain).await, Err(Fault::Impossible(_))));
    }
}
