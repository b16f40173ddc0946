//! The log, as the daemon and `tracing` use it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Metadata, Subscriber};

use super::error::Error;
use super::filter::Filters;
use super::lines::Hands;
use super::opening::{Opened, Opening};
use super::output::Outputs;
use super::record::Record;
use super::settings::Settings;
use super::state::State;
use crate::cli::{Options, Paths};
use crate::config::Common;
use crate::sys::calls;

/// The open log. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Logger(pub(super) Arc<Mutex<State>>);

impl Logger {
    /// Opens the log, however long that takes. Files are written by the thread that logs.
    ///
    /// # Errors
    /// Invalid filters or outputs, or an output that cannot be opened.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Self::open(settings, Opening::open)
    }

    /// Opens the log of daemon `name` and installs it for this process. A file that takes longer to
    /// open than `period` is opened on its first write.
    ///
    /// # Errors
    /// As [`Settings::new`] and [`Logger::install_with`].
    pub fn install(
        name: &str,
        options: &Options,
        config: &Common,
        paths: &Paths,
        period: Duration,
    ) -> Result<Self, Error> {
        Self::install_with(Settings::detect(name, options, config, paths)?, period)
    }

    /// Opens the log and installs it for this process.
    ///
    /// # Errors
    /// As [`Logger::new`]; [`Error::Installed`] when the process has one already.
    pub fn install_with(settings: Settings, period: Duration) -> Result<Self, Error> {
        let logger = Self::open(settings, |opening| opening.open_within(period))?;
        set_global_default(logger.clone()).map_err(|_| Error::Installed)?;
        Ok(logger)
    }

    fn open(
        settings: Settings,
        open: impl FnOnce(Opening) -> Result<Opened, Error>,
    ) -> Result<Self, Error> {
        let outputs = settings.outputs.clone();
        let logger = Self(Arc::new(Mutex::new(State::new(settings)?)));
        let opened = open(logger.opening(&outputs)?)?;
        logger.set_outputs(opened);
        Ok(logger)
    }

    /// Makes threads write files and stderr from now on, so that nothing else blocks on them. Not
    /// to be called by a process that is yet to fork.
    pub fn use_threads(&self) {
        let mut state = self.state();
        state.hands = Hands::Threads;
        state.sinks.iter_mut().for_each(|sink| sink.start_writing(Hands::Threads));
    }

    /// Returns the filters as libvirt writes them: `1:*rpc*`.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        self.state().filters.items()
    }

    /// Returns the outputs as libvirt writes them: `3:stderr`.
    #[must_use]
    pub fn outputs(&self) -> Vec<String> {
        self.state().sinks.iter().map(|sink| sink.output.to_string()).collect()
    }

    /// Replaces the filters; an empty setting leaves none.
    ///
    /// # Errors
    /// An invalid setting; the filters are unchanged.
    pub fn set_filters(&self, setting: &str) -> Result<(), Error> {
        let filters = Filters::parse(setting)?;
        self.state().filters = filters;
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Parses a setting of outputs, to be opened and then [set](Self::set_outputs). An empty
    /// setting restores the default.
    ///
    /// # Errors
    /// An invalid setting; [`Error::Leaving`].
    pub fn opening(&self, setting: &str) -> Result<Opening, Error> {
        let outputs = Outputs::parse(setting, &working_directory())?;
        self.state().opening(outputs)
    }

    /// Replaces the outputs. No message is lost in between.
    pub fn set_outputs(&self, outputs: Opened) {
        self.state().replace(outputs);
        tracing::callsite::rebuild_interest_cache();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Logger {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && self.state().wants((*metadata.level()).into(), metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let state = self.state();
        let filtered =
            state.filters.level_min().map_or(state.level, |level| level.min(state.level));
        Some(filtered.max(state.output_level_min()).hint())
    }

    fn event(&self, event: &Event<'_>) {
        let record = Record::of(event, event.metadata());
        self.state().write_unless_repeated(&record, event.metadata().callsite());
    }

    // Spans are never enabled, so the methods below are not called.

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Returns the base of relative paths of log files.
fn working_directory() -> PathBuf {
    let directory = calls::or_else(std::env::current_dir(), || fs::read_link("/proc/self/cwd"));
    directory.unwrap_or_else(|_| "/".into())
}
