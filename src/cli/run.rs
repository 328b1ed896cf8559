//! `pilotfish run`: from a valid configuration to the end of the process.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::Source as Origin;
use super::{EXIT_CONFIG, EXIT_FAILED, Failure, logging};
use crate::admin::actions::Reload;
use crate::admin::upgrade::Upgrade;
use crate::app::handover::{self, Start};
use crate::app::{App, Manager, Source, StartError, Stopped, pass_on_reload};
use crate::config::Config;

/// Runs until a signal says stop. 0 after a stop, 78 for secrets or certificates that cannot be used, 1 when it could not
/// start for another reason.
///
/// # Errors
/// Before there is a log: what is wrong with the configuration, or with what started this process.
pub fn run(origin: Origin) -> Result<ExitCode, Failure> {
    if let Some(launched) = handover::launch() {
        return launched.map(|()| ExitCode::SUCCESS).map_err(|problem| Failure::new(EXIT_FAILED, problem));
    }
    let start = Start::from_environment().map_err(|problem| Failure::new(EXIT_FAILED, problem))?;
    let herald = start.herald();
    let tell = |problem: &str| herald.iter().for_each(|herald| herald.failed(problem));
    let config = origin.read().map_err(|problems| {
        tell(&problems.to_string());
        Failure::new(EXIT_CONFIG, problems.to_string())
    })?;
    let _flushes_at_the_end = logging::init(&config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "pilotfish starts");
    let error = match serve(config, Box::new(move || origin.read()), start) {
        Ok(Stopped { .. }) => return Ok(ExitCode::SUCCESS),
        Err(error) => error,
    };
    tell(&format!("{error:#}"));
    tracing::error!("{error:#}");
    let of_configuration = error.downcast_ref::<StartError>().is_some_and(StartError::is_of_configuration);
    Ok(ExitCode::from(if of_configuration { EXIT_CONFIG } else { EXIT_FAILED }))
}

fn serve(config: Config, source: Source, start: Start) -> anyhow::Result<Stopped> {
    let app = App::start(config, Some(source), start)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()
        .context("the control runtime cannot be made")?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut again = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(reload_at_hangups(signal(SignalKind::hangup())?, app.reload(), app.upgrade()));
        tokio::spawn(upgrade_at_signals(signal(SignalKind::user_defined2())?, app.upgrade()));
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
/// manager is told when it begins and when it is over. It has no word for a reload that was not done, so one that comes during
/// an upgrade waits for its end, and is for the process that serves then.
async fn reload_at_hangups(mut hangups: Signal, reload: Reload, upgrade: Upgrade) {
    let manager = Manager::from_environment();
    while hangups.recv().await.is_some() {
        let reload = reload.clone();
        manager.reloading();
        let change = match upgrade.defer_reload().await {
            Ok(change) => change,
            Err(pid) => {
                pass_on_reload(&upgrade, pid);
                continue;
            }
        };
        // An upgrade that began in between would have it refused, and nobody would be told.
        let reload = move || {
            let _change = change;
            reload.run("SIGHUP", "-")
        };
        let _ = tokio::task::spawn_blocking(reload).await;
        manager.ready();
    }
}

/// What has come of an upgrade is in the log.
async fn upgrade_at_signals(mut signals: Signal, upgrade: Upgrade) {
    while signals.recv().await.is_some() {
        let upgrade = upgrade.clone();
        // Not waited for: a second one is refused while this one is under way.
        tokio::spawn(async move { upgrade.run("SIGUSR2", "-").await });
    }
}
