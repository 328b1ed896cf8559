//! `pilotfish run`: from a valid configuration to the end of the process.

use std::io;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::Source as Origin;
use super::{EXIT_CONFIG, EXIT_FAILED, Failure, logging};
use crate::admin::actions::Reload;
use crate::admin::upgrade::Upgrade;
use crate::app::handover::{self, Start};
use crate::app::{App, Manager, Source, StartError, Stopped, pass_on_reload, raise_open_files};
use crate::config::Config;

/// Runs until a signal says stop. 0 after a stop, 78 for secrets or certificates that cannot be used, 1 when it could not
/// start for another reason.
///
/// # Errors
/// Before there is a log: what is wrong with the configuration, with the system, or with what started this process.
pub fn run(origin: Origin, control: Result<Control, StartError>) -> Result<ExitCode, Failure> {
    let failed = |problem: &dyn ToString| Failure::new(EXIT_FAILED, problem.to_string());
    if let Some(launched) = handover::launch() {
        return launched.map(|()| ExitCode::SUCCESS).map_err(|problem| failed(&problem));
    }
    let control = control.map_err(|error| failed(&error))?;
    let start = Start::from_environment().map_err(|problem| failed(&problem))?;
    let herald = start.herald();
    let tell = |problem: &str| herald.iter().for_each(|herald| herald.failed(problem));
    let config = origin.read().map_err(|problems| {
        tell(&problems.to_string());
        Failure::new(EXIT_CONFIG, problems.to_string())
    })?;
    let _flushes_at_the_end = logging::init(&config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "pilotfish starts");
    let error = match control.serve(config, Box::new(move || origin.read()), start) {
        Ok(Stopped { .. }) => return Ok(ExitCode::SUCCESS),
        Err(error) => error,
    };
    tell(&error.to_string());
    tracing::error!("{error}");
    Ok(ExitCode::from(if error.is_of_configuration() { EXIT_CONFIG } else { EXIT_FAILED }))
}

/// The event loop of control, and the signals that end no process, however early they come. A signal that is to end it does so
/// by itself until there is something to finish.
pub struct Control {
    runtime: Runtime,
    hangups: Signal,
    upgrades: Signal,
}

impl Control {
    /// # Errors
    /// For want of descriptors.
    pub fn new() -> Result<Control, StartError> {
        raise_open_files()?;
        let runtime = Builder::new_current_thread().enable_all().thread_name("control").build()?;
        let _within = runtime.enter();
        let (hangups, upgrades) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?);
        Ok(Control { hangups, upgrades, runtime })
    }

    fn serve(self, config: Config, source: Source, start: Start) -> Result<Stopped, StartError> {
        let Control { runtime, hangups, upgrades } = self;
        let app = App::start(config, Some(source), start)?;
        let outcome = runtime.block_on(async {
            let (mut stops, mut again) = (Stops::new()?, Stops::new()?);
            tokio::spawn(reload_at_hangups(hangups, app.reload(), app.upgrade()));
            tokio::spawn(upgrade_at_signals(upgrades, app.upgrade()));
            // The second signal: these streams see the first one too.
            let hurry = async {
                again.next().await;
                again.next().await;
            };
            app.run(stops.next(), hurry).await
        });
        // A lookup that hangs in the system's resolver is not waited for.
        runtime.shutdown_background();
        outcome
    }
}

/// The signals that stop. SIGUSR1 does so in HAProxy, and for containers made for it.
struct Stops([Signal; 3]);

impl Stops {
    fn new() -> io::Result<Stops> {
        let [terminate, interrupt, soft] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::user_defined1()].map(signal);
        Ok(Stops([terminate?, interrupt?, soft?]))
    }

    async fn next(&mut self) {
        let [terminate, interrupt, soft] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = soft.recv() => {}
        }
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
