//! `pilotfish run`: from a valid configuration to the end of the process.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{EXIT_CONFIG, EXIT_FAILED, logging};
use crate::admin::actions::Reload;
use crate::app::{App, Manager, Source, StartError, Stopped};
use crate::config::Config;

/// Runs until a signal says stop. 0 after a stop, 78 for secrets or certificates that cannot be used, 1 when it could not
/// start for another reason.
pub fn run(config: Config, source: Source) -> ExitCode {
    let _flushes_at_the_end = logging::init(&config.log);
    match serve(config, source) {
        Ok(Stopped { .. }) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let of_configuration =
                error.downcast_ref::<StartError>().is_some_and(StartError::is_of_configuration);
            ExitCode::from(if of_configuration { EXIT_CONFIG } else { EXIT_FAILED })
        }
    }
}

fn serve(config: Config, source: Source) -> anyhow::Result<Stopped> {
    let app = App::prepare(config, Some(source))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()
        .context("the control runtime cannot be made")?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut again = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(reload_at_hangups(signal(SignalKind::hangup())?, app.reload()));
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

/// A hangup reloads, and never ends the process as it would by default. What has come of it is in the log; the service
/// manager is told when it begins and when it is over.
async fn reload_at_hangups(mut hangups: Signal, reload: Reload) {
    let manager = Manager::from_environment();
    while hangups.recv().await.is_some() {
        let reload = reload.clone();
        manager.reloading();
        let _ = tokio::task::spawn_blocking(move || reload.run("SIGHUP", "-")).await;
        manager.ready();
    }
}
