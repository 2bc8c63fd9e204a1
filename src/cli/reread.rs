//! Reading the config again while the gateway runs: a plan that is sound is adopted, any other is told and forgotten.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::config::Plan;
use crate::gateway::Gateway;
use crate::metrics;

/// How often the file is looked at where that was asked for. By content: a mounted ConfigMap changes by a symlink.
const LOOK: Duration = Duration::from_secs(2);

/// What a running gateway was started from.
pub struct Reloader<P> {
    /// Makes a plan of what stands in the file now, or says everything that is wrong with it.
    read: P,
    /// The plan that runs.
    plan: Plan,
    /// The file to be watched, if any, and what it held when it was last looked at.
    watched: Option<(PathBuf, Option<Vec<u8>>)>,
}

// === impl Reloader ===

impl<P: Fn() -> Result<Plan, String>> Reloader<P> {
    /// For a gateway that runs by this plan.
    pub fn new(read: P, plan: Plan, watched: Option<PathBuf>) -> Self {
        note_success();
        Self { read, plan, watched: watched.map(|file| (file.clone(), std::fs::read(file).ok())) }
    }

    /// Reads the config again and lets the gateway run by it; answers what has changed, a line each.
    ///
    /// # Errors
    /// Everything that is wrong with the config. The gateway runs on as before.
    pub async fn reload(&mut self, gateway: &Gateway) -> Result<String, String> {
        let adopted = match (self.read)() {
            Ok(plan) => {
                gateway.reload(plan.clone()).await.map(|()| plan).map_err(|error| format!("switchyard: {error}"))
            }
            Err(problems) => Err(problems),
        };
        match adopted {
            Ok(plan) => {
                let changes = plan.written.changes_since(&self.plan.written);
                if plan.log.level != self.plan.log.level {
                    super::set_log_level(&plan.log.level)?;
                }
                self.plan = plan;
                note_success();
                let lines: Vec<String> = changes.iter().map(|change| format!("  {change}\n")).collect();
                tracing::info!(changes = changes.len(), "the config was read again and runs");
                Ok(match lines.is_empty() {
                    true => "reloaded; no setting has changed\n".to_owned(),
                    false => format!("reloaded:\n{}", lines.concat()),
                })
            }
            Err(problems) => {
                metrics::config_last_reload_successful().set(0.0);
                tracing::error!("the config was read again and is not sound; the gateway runs on as before");
                Err(format!("{problems}\nnot reloaded: the gateway runs on as before\n"))
            }
        }
    }

    /// Waits until the watched file holds something else; for ever when none is watched. Cancel-safe.
    pub async fn changed(&mut self) {
        let Some((file, held)) = &mut self.watched else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let now = tokio::fs::read(&file).await.ok();
            // A file that is gone for a moment is being replaced.
            if now.is_some() && now != *held {
                *held = now;
                return;
            }
        }
    }
}

fn note_success() {
    metrics::config_last_reload_successful().set(1.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    metrics::config_last_reload_success_timestamp().set(now.as_secs_f64());
}
