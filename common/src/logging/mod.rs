//! The daemon's own log: libvirt's filters and outputs, changeable at run time, as a subscriber of
//! `tracing`.
//!
//! An event's `target` is its category. Names are libvirt's where libvirt has one, so that
//! operators' filters keep working: `tracing::warn!(target: "rpc.netserver", "...")`. An event is
//! logged if its level is at least that of the first filter that matches the category, or else the
//! default level. It then goes to every output whose own level it reaches.
//!
//! A disabled event costs one load from memory: `tracing` caches for each call site whether it is
//! enabled, and the cache is rebuilt whenever filters or outputs change.
//!
//! Writing never fails the daemon and never blocks it. Files and stderr have a [queue] and a
//! [thread](writer) each, and only that thread blocks on a hanging disk or pipe. A message that
//! cannot be written, or does not fit the queue, is lost, counted, and reported in its place. An
//! orderly [end](mod@end) gives the threads a second. A thread that is in the kernel can keep the
//! process from exiting and from executing a successor: before an exec the threads
//! [end](Logger::hold).

mod end;
mod error;
mod filter;
mod journal;
mod level;
mod lines;
mod opening;
mod output;
mod queue;
mod record;
mod repeats;
mod services;
mod settings;
mod sink;
mod stderr;
mod stream;
mod writer;

pub use self::end::{Held, bound_panics, end, last_words};
pub use self::error::{Error, Invalid};
pub use self::filter::{FILTERS_MAX, Filters};
pub use self::level::Level;
pub use self::opening::{Opened, Opening};
pub use self::output::{Destination, OUTPUTS_MAX, Output, Outputs};
pub use self::queue::FLUSH_PERIOD;
pub use self::record::timestamp;
pub use self::services::Services;
pub use self::settings::{Environment, Settings, Surroundings};

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Metadata, Subscriber};

use self::lines::{Hands, Lines};
use self::record::Record;
use self::repeats::{Repeats, Verdict};
use self::sink::{Greeting, Sink};
use crate::cli::{Options, Paths};
use crate::config::Common;
use crate::sys::calls;

/// Replaced outputs that have not written everything yet.
pub const LEAVING_MAX: usize = OUTPUTS_MAX;

/// The open log. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Logger(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    level: Level,
    filters: Filters,
    sinks: Vec<Sink>,
    hands: Hands,
    /// Lines of replaced outputs that are not written yet.
    leaving: Vec<(Destination, Lines)>,
    default_output: Output,
    services: Services,
    greeting: Greeting,
    repeats: Repeats,
}

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

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes a log without outputs.
    fn new(settings: Settings) -> Result<Self, Error> {
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        Ok(Self {
            level: settings.level,
            filters: Filters::parse(&settings.filters)?,
            sinks: Vec::new(),
            hands: Hands::Callers,
            leaving: Vec::new(),
            default_output: settings.default_output,
            services: settings.services,
            greeting: Greeting {
                version: settings.version,
                hostname: hostname.to_string_lossy().into_owned(),
            },
            repeats: Repeats::default(),
        })
    }

    fn opening(&mut self, outputs: Outputs) -> Result<Opening, Error> {
        self.leaving.retain(|(_, lines)| !lines.queue.is_over());
        if self.leaving.len() >= LEAVING_MAX {
            return Err(Error::Leaving(self.leaving.len()));
        }
        let is_default = outputs.count() == 0;
        let outputs = if is_default { self.default_output.clone().into() } else { outputs };
        Ok(Opening { outputs, is_default, services: self.services.clone() })
    }

    fn replace(&mut self, Opened(sinks): Opened) {
        for sink in std::mem::replace(&mut self.sinks, sinks) {
            let destination = sink.output.destination.clone();
            let Some(lines) = sink.leave(self.hands) else { continue };
            let same = self.sinks.iter_mut().find(|new| new.output.destination == destination);
            let same = same.and_then(Sink::lines_mut);
            same.into_iter().for_each(|new| new.follow(&lines.queue));
            self.leaving.push((destination, lines));
        }
    }

    fn wants(&self, level: Level, category: &str) -> bool {
        let filtered = self.filters.level(category).unwrap_or(self.level);
        level >= filtered && level >= self.output_level_min()
    }

    fn output_level_min(&self) -> Level {
        self.sinks.iter().map(|sink| sink.output.level).min().unwrap_or(Level::Error)
    }

    /// Writes a record unless its call site repeats too fast. Records enabled by a filter are
    /// always written.
    fn write_unless_repeated(&mut self, record: &Record<'_>, place: Identifier) {
        if record.level < Level::Warning {
            return self.write(record);
        }
        let verdict = self.repeats.judge(place, Instant::now());
        match verdict {
            Verdict::LeftOut => return,
            Verdict::Logged { left_out: 0 } | Verdict::Last => {}
            Verdict::Logged { left_out } => {
                let text = format!("{left_out} messages like the next one were left out");
                self.write(&record.beside(record.level, text));
            }
        }
        self.write(record);
        if verdict == Verdict::Last {
            let text = "messages like the last one come too often, and are left out for now";
            self.write(&record.beside(record.level, text.to_owned()));
        }
    }

    fn write(&mut self, record: &Record<'_>) {
        for sink in &mut self.sinks {
            sink.write(record, &self.greeting, self.hands);
        }
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

#[cfg(test)]
mod tests;
