//! `pilotfish run`: from a valid configuration to the end of the process.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging;
use crate::app::{App, Stopped};
use crate::config::Config;

/// Runs until a signal says stop. 0 after a stop, 1 when it could not start.
pub fn run(config: Config) -> ExitCode {
    let _flushes_at_the_end = logging::init(&config.log);
    match serve(config) {
        Ok(Stopped { .. }) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> anyhow::Result<Stopped> {
    let app = App::prepare(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()
        .context("the control runtime cannot be made")?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut again = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(explain_hangups(signal(SignalKind::hangup())?));
        let stop = either(&mut terminate, &mut interrupt);
        // The second signal: these streams see the first one too.
        let hurry = async {
            either(&mut again.0, &mut again.1).await;
            either(&mut again.0, &mut again.1).await;
        };
        Ok(app.run(stop, hurry).await?)
    });
    // A lookup that hangs in the system's resolver is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

/// A hangup must not end the process, as it would by default.
async fn explain_hangups(mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        tracing::warn!("SIGHUP: this version does not reload; restart to use a changed configuration");
    }
}
