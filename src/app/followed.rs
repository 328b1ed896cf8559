//! The files with everybody's credentials for Patroni, each followed once for as long as a cluster needs it.

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::control::Patroni;

/// Who is followed. Dropped, it lets go of all.
#[derive(Debug, Default)]
pub struct Followed(Vec<(Patroni, AbortHandle)>);

impl Followed {
    /// From now on these, and no others. `control` is where they are followed.
    pub fn follow(&mut self, control: &Handle, patronis: Vec<Patroni>) {
        self.0.retain(|(followed, task)| {
            let stays = patronis.iter().any(|patroni| patroni.is(followed));
            if !stays {
                task.abort();
            }
            stays
        });
        for patroni in patronis {
            if !self.0.iter().any(|(followed, _)| followed.is(&patroni)) {
                let task = control.spawn(patroni.clone().follow());
                self.0.push((patroni, task.abort_handle()));
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, task)| task.abort());
    }
}
