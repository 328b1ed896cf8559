//! Signs of life for the service manager, given only while everything turns.
//!
//! Each part is asked to answer from within its own loop: control, and each worker, which looks whether its listeners still
//! accept. So a thread that is stuck, or a task that has ended, leaves the question without a good answer; no sign is given
//! then, and when the manager's patience is over it starts pilotfish anew. Panics end no loop: see `stats/panics`. It costs one
//! message to each part every now and then, and nothing on the way of a session.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::manager::Manager;
use crate::control::Inbox;
use crate::proxy::Workers;

/// Signs of life within the manager's patience. Each part has this share of it for its answer, so that one slow answer is
/// no reason for a restart.
const SIGNS: u32 = 4;

/// Follows all parts for as long as it is not dropped. Runs on the control thread, so that a stuck one is silent by itself.
pub(super) async fn run(manager: Manager, patience: Duration, workers: &Workers, control: &Inbox) {
    let every = patience / SIGNS;
    let mut ticks = interval(every);
    // After a pause there is one sign to give, not all that were missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = Vec::new();
    loop {
        ticks.tick().await;
        let still = standing_still(every, workers, control).await;
        if still.is_empty() {
            manager.alive();
        }
        // The flip is news, not each look.
        if still != silent {
            match still.is_empty() {
                false => tracing::error!(
                    parts = still.join(", "),
                    "no sign of life for the service manager: these do not turn"
                ),
                true => tracing::info!("all parts turn again"),
            }
        }
        silent = still;
    }
}

/// The parts that give no good answer in time.
async fn standing_still(within: Duration, workers: &Workers, control: &Inbox) -> Vec<String> {
    let (control, workers) = tokio::join!(timeout(within, control.turns()), workers.standing_still(within));
    let control = (!control.unwrap_or(false)).then(|| "control".to_owned());
    control.into_iter().chain(workers.into_iter().map(|worker| format!("worker {worker}"))).collect()
}
