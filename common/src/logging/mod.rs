//! The daemon's own log: libvirt's filters and outputs, changeable while it runs, as a subscriber
//! of `tracing`.
//!
//! An event's `target` is its category, and the names are libvirt's where libvirt has one, so that
//! operators' filters go on working: `tracing::warn!(target: "rpc.netserver", "...")`. It is
//! logged if its level is at least that of the first filter that matches the category, or else
//! the default level; it then goes to every output whose own level it reaches.
//!
//! What is switched off costs one load from memory: `tracing` remembers for each place in the code
//! whether it is wanted, and is made to forget whenever filters or outputs change.
//!
//! Writing never fails the daemon and never waits: a message that cannot be written is lost and
//! counted.

mod error;
mod filter;
mod journal;
mod level;
mod output;
mod record;
mod settings;
mod sink;
mod stderr;

pub use self::error::{Error, Invalid};
pub use self::filter::{FILTERS_MAX, Filters};
pub use self::level::Level;
pub use self::output::{Destination, OUTPUTS_MAX, Output, Outputs};
pub use self::record::timestamp;
pub use self::settings::{Environment, Settings, Surroundings};
pub use self::sink::Services;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Metadata, Subscriber};

use self::record::Record;
use self::sink::{Greeting, Sink, make_parent};
use crate::cli::{Options, Paths};
use crate::config::Common;

/// The log, open. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Logger(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    level: Level,
    filters: Filters,
    sinks: Vec<Sink>,
    default_output: Output,
    services: Services,
    greeting: Greeting,
    lost: u64,
}

impl Logger {
    /// Opens the log.
    ///
    /// # Errors
    /// What is wrong with the filters or outputs, or an output that cannot be opened.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Ok(Self(Arc::new(Mutex::new(State::new(settings)?))))
    }

    /// Opens the log that daemon `name` was asked for and makes it the one of this process.
    ///
    /// # Errors
    /// As [`Settings::new`] and [`Logger::install_with`].
    pub fn install(
        name: &str,
        options: &Options,
        config: &Common,
        paths: &Paths,
    ) -> Result<Self, Error> {
        Self::install_with(Settings::detect(name, options, config, paths)?)
    }

    /// Opens the log and makes it the one of this process.
    ///
    /// # Errors
    /// As [`Logger::new`]; [`Error::Installed`] when the process has one already.
    pub fn install_with(settings: Settings) -> Result<Self, Error> {
        let logger = Self::new(settings)?;
        set_global_default(logger.clone()).map_err(|_| Error::Installed)?;
        Ok(logger)
    }

    /// Sets everything anew: for a start that has something to say before it knows its
    /// configuration.
    ///
    /// # Errors
    /// As [`Logger::new`]; the log stays as it was.
    pub fn replace(&self, settings: Settings) -> Result<(), Error> {
        let state = State::new(settings)?;
        *self.state() = state;
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// The filters one by one, as libvirt writes them: `1:*rpc*`.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        self.state().filters.items()
    }

    /// The outputs one by one, as libvirt writes them: `3:stderr`.
    #[must_use]
    pub fn outputs(&self) -> Vec<String> {
        self.state().sinks.iter().map(|sink| sink.output.to_string()).collect()
    }

    /// Replaces the filters; an empty setting leaves none.
    ///
    /// # Errors
    /// What is wrong with the setting; the filters stay as they were.
    pub fn set_filters(&self, setting: &str) -> Result<(), Error> {
        let filters = Filters::parse(setting)?;
        self.state().filters = filters;
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Replaces the outputs; an empty setting restores the default. No message is lost between
    /// the old ones and the new ones.
    ///
    /// # Errors
    /// What is wrong with the setting, or an output that cannot be opened; the outputs stay as
    /// they were.
    pub fn set_outputs(&self, setting: &str) -> Result<(), Error> {
        let mut state = self.state();
        state.sinks = state.open(setting)?;
        drop(state);
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// How many messages could not be written, over all outputs.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state().lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(settings: Settings) -> Result<Self, Error> {
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        let mut state = Self {
            level: settings.level,
            filters: Filters::parse(&settings.filters)?,
            sinks: Vec::new(),
            default_output: settings.default_output,
            services: settings.services,
            greeting: Greeting {
                version: settings.version,
                hostname: hostname.to_string_lossy().into_owned(),
            },
            lost: 0,
        };
        state.sinks = state.open(&settings.outputs)?;
        Ok(state)
    }

    fn open(&self, setting: &str) -> Result<Vec<Sink>, Error> {
        let mut outputs = Outputs::parse(setting, &working_directory())?;
        if outputs.count() == 0 {
            make_parent(&self.default_output)?;
            outputs = self.default_output.clone().into();
        }
        outputs.iter().map(|output| Sink::open(output, &self.services)).collect()
    }

    fn wants(&self, level: Level, category: &str) -> bool {
        let filtered = self.filters.level(category).unwrap_or(self.level);
        level >= filtered && level >= self.output_level_min()
    }

    fn output_level_min(&self) -> Level {
        self.sinks.iter().map(|sink| sink.output.level).min().unwrap_or(Level::Error)
    }

    fn write(&mut self, record: &Record<'_>) {
        for sink in &mut self.sinks {
            self.lost = self.lost.saturating_add(sink.write(record, &self.greeting));
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
        self.state().write(&record);
    }

    // Spans are never enabled, so nothing below is called with one of ours.

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Where relative paths of log files start.
fn working_directory() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| "/".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tracing::dispatcher::{Dispatch, with_default};

    struct Scene {
        dir: tempfile::TempDir,
        logger: Logger,
    }

    impl Scene {
        fn new(level: Level, filters: &str, outputs: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (filters, outputs) = (filters.to_owned(), in_dir(dir.path(), outputs));
            let settings = Settings { level, filters, outputs, ..Settings::default() };
            Self { logger: Logger::new(settings).unwrap(), dir }
        }

        fn with(&self, action: impl FnOnce()) {
            with_default(&Dispatch::new(self.logger.clone()), action);
        }

        fn set_outputs(&self, setting: &str) -> Result<(), Error> {
            self.logger.set_outputs(&in_dir(self.dir.path(), setting))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// The texts of a file's messages, its first two lines left out.
        fn texts(&self, name: &str) -> Vec<String> {
            let content = std::fs::read_to_string(self.path(name)).unwrap();
            let text = |line: &str| line.rsplit(" : ").next().unwrap().to_owned();
            content.lines().skip(2).map(text).collect()
        }
    }

    fn in_dir(dir: &Path, setting: &str) -> String {
        setting.replace("@/", &format!("{}/", dir.display()))
    }

    fn log_everywhere() {
        for category in ["rpc", "util"] {
            match category {
                "rpc" => {
                    tracing::debug!(target: "rpc.netserver", "rpc debug");
                    tracing::error!(target: "rpc.netserver", "rpc error");
                }
                _ => {
                    tracing::debug!(target: "util.conf", "util debug");
                    tracing::warn!(target: "util.conf", "util warning");
                }
            }
        }
    }

    #[test]
    fn the_process_has_one_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let outputs = format!("4:file:{}", path.display());
        let settings = || Settings { outputs: outputs.clone(), ..Settings::default() };
        let logger = Logger::install_with(Settings::default()).unwrap();
        assert_eq!(logger.outputs(), ["3:stderr"]);
        logger.replace(settings()).unwrap();
        tracing::error!(target: "only.this.test", "seen");
        assert!(std::fs::read_to_string(path).unwrap().contains(" : seen\n"));
        assert!(matches!(Logger::install_with(settings()), Err(Error::Installed)));
    }

    #[test]
    fn a_filter_set_while_running_changes_what_the_same_code_logs_next() {
        let scene = Scene::new(Level::Warning, "", "1:file:@/log");
        scene.with(|| {
            log_everywhere();
            assert_eq!(scene.texts("log"), ["rpc error", "util warning"]);
            scene.logger.set_filters("1:rpc 4:util").unwrap();
            assert_eq!(scene.logger.filters(), ["1:*rpc*", "4:*util*"]);
            log_everywhere();
            assert_eq!(scene.texts("log")[2..], ["rpc debug", "rpc error"]);
            scene.logger.set_filters("").unwrap();
            log_everywhere();
            assert_eq!(scene.texts("log")[4..], ["rpc error", "util warning"]);
        });
    }

    #[test]
    fn an_output_takes_what_reaches_its_level() {
        let scene = Scene::new(Level::Debug, "", "4:file:@/errors 1:file:@/all");
        scene.with(log_everywhere);
        assert_eq!(scene.texts("errors"), ["rpc error"]);
        assert_eq!(scene.texts("all").len(), 4);
    }

    #[test]
    fn what_no_output_takes_is_not_even_formatted() {
        let scene = Scene::new(Level::Debug, "", "4:file:@/log");
        assert_eq!(scene.logger.max_level_hint(), Some(LevelFilter::ERROR));
        scene.with(|| {
            assert!(!tracing::enabled!(target: "rpc", tracing::Level::WARN));
            scene.set_outputs("1:file:@/log").unwrap();
            assert!(tracing::enabled!(target: "rpc", tracing::Level::TRACE));
        });
    }

    #[test]
    fn outputs_switched_between_messages_lose_none() {
        let scene = Scene::new(Level::Info, "", "1:file:@/0");
        scene.with(|| {
            for number in 0..100 {
                if number % 10 == 0 {
                    scene.set_outputs(&format!("1:file:@/{}", number / 10)).unwrap();
                }
                tracing::info!(target: "daemon", "{number}");
            }
        });
        let all: Vec<String> = (0..10).flat_map(|file| scene.texts(&file.to_string())).collect();
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(all, expected);
        assert_eq!(scene.logger.lost(), 0);
    }

    #[test]
    fn a_setting_that_is_wrong_or_cannot_be_opened_changes_nothing() {
        let scene = Scene::new(Level::Info, "1:rpc", "1:file:@/log");
        let before = scene.logger.outputs();
        for bad in ["3:stderr 1:bogus", "3:stderr 1:file:@/no/such"] {
            scene.set_outputs(bad).unwrap_err();
            assert_eq!(scene.logger.outputs(), before, "{bad}");
        }
        scene.logger.set_filters("2:util garbage").unwrap_err();
        assert_eq!(scene.logger.filters(), ["1:*rpc*"]);
        scene.with(|| tracing::info!(target: "daemon", "still here"));
        assert_eq!(scene.texts("log"), ["still here"]);
    }

    #[test]
    fn an_empty_setting_restores_the_default_output() {
        let dir = tempfile::tempdir().unwrap();
        let log_file = dir.path().join("made/for us:/virtlogd.log");
        let destination = Destination::File(log_file.clone());
        let default_output = Output { level: Level::Info, destination };
        let settings = Settings { default_output, ..Settings::default() };
        let logger = Logger::new(settings).unwrap();
        let default = vec![format!("2:file:{}", log_file.display())];
        assert_eq!(logger.outputs(), default);
        for empty in ["", "  "] {
            logger.set_outputs("1:stderr").unwrap();
            assert_eq!(logger.outputs(), ["1:stderr"]);
            logger.set_outputs(empty).unwrap();
            assert_eq!(logger.outputs(), default, "{empty:?}");
        }
        assert!(log_file.exists());
    }

    #[test]
    fn fields_follow_the_message_and_cannot_break_the_line() {
        let scene = Scene::new(Level::Info, "", "1:file:@/log");
        let path = "a\nb";
        scene.with(|| {
            tracing::info!(target: "daemon", count = 3, name = path, "opened {path}");
        });
        assert_eq!(scene.texts("log"), ["opened a\\nb count=3 name=\"a\\nb\""]);
        let content = std::fs::read_to_string(scene.path("log")).unwrap();
        let line = content.lines().last().unwrap();
        assert!(line.contains(": info : tests:"), "{line}");
    }

    #[test]
    fn errors_tell_a_client_code_text_and_number() {
        let scene = Scene::new(Level::Info, "", "1:file:@/log");
        let error = scene.logger.set_filters("garbage").unwrap_err();
        assert_eq!(error.to_rpc().code(), crate::rpc::error::Code::InvalidArg);
        let text = "invalid argument: Malformed format for filter 'garbage'";
        assert_eq!(error.to_rpc().message(), text);
        assert_eq!(error.to_string(), text);
        let error = scene.set_outputs("1:file:@/no/such").unwrap_err();
        assert_eq!(error.to_rpc().code(), crate::rpc::error::Code::SystemError);
        assert_eq!(error.to_rpc().message(), error.to_string());
    }
}
