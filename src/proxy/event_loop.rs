//! An event loop for a thread of its own, which may be let go of anywhere.
//!
//! tokio's own panics when it is dropped by async code, since it would wait for blocking work there. A start that fails does so.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

#[derive(Debug)]
pub struct EventLoop {
    pub handle: Handle,
    /// There until it goes.
    runtime: Option<Runtime>,
}

impl EventLoop {
    /// # Errors
    /// Those of the system, such as for want of descriptors.
    pub fn new(builder: &mut Builder) -> io::Result<EventLoop> {
        let runtime = builder.enable_all().build()?;
        Ok(EventLoop { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs `work` to its end in this thread. Blocking work under way then is not waited for.
    pub fn run(self, work: impl Future<Output = ()>) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(work);
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn async_code_may_let_go_of_it() {
        drop(EventLoop::new(&mut Builder::new_current_thread()).unwrap());
    }
}
