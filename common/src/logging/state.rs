//! State of the log.

use std::time::Instant;

use tracing::callsite::Identifier;

use super::error::Error;
use super::filter::Filters;
use super::level::Level;
use super::lines::{Hands, Lines};
use super::opening::{Opened, Opening};
use super::output::{Destination, OUTPUTS_MAX, Output, Outputs};
use super::record::Record;
use super::repeats::{Repeats, Verdict};
use super::services::Services;
use super::settings::Settings;
use super::sink::{Greeting, Sink};

/// Replaced outputs that have not written everything yet.
pub const LEAVING_MAX: usize = OUTPUTS_MAX;

#[derive(Debug)]
pub(super) struct State {
    pub(super) level: Level,
    pub(super) filters: Filters,
    pub(super) sinks: Vec<Sink>,
    pub(super) hands: Hands,
    /// Lines of replaced outputs that are not written yet.
    pub(super) leaving: Vec<(Destination, Lines)>,
    default_output: Output,
    services: Services,
    greeting: Greeting,
    repeats: Repeats,
}

impl State {
    /// Makes a log without outputs.
    pub(super) fn new(settings: Settings) -> Result<Self, Error> {
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

    pub(super) fn opening(&mut self, outputs: Outputs) -> Result<Opening, Error> {
        self.leaving.retain(|(_, lines)| !lines.queue.is_over());
        if self.leaving.len() >= LEAVING_MAX {
            return Err(Error::Leaving(self.leaving.len()));
        }
        let is_default = outputs.count() == 0;
        let outputs = if is_default { self.default_output.clone().into() } else { outputs };
        Ok(Opening { outputs, is_default, services: self.services.clone() })
    }

    pub(super) fn replace(&mut self, Opened(sinks): Opened) {
        for sink in std::mem::replace(&mut self.sinks, sinks) {
            let destination = sink.output.destination.clone();
            let Some(lines) = sink.leave(self.hands) else { continue };
            let same = self.sinks.iter_mut().find(|new| new.output.destination == destination);
            let same = same.and_then(Sink::lines_mut);
            same.into_iter().for_each(|new| new.follow(&lines.queue));
            self.leaving.push((destination, lines));
        }
    }

    pub(super) fn wants(&self, level: Level, category: &str) -> bool {
        let filtered = self.filters.level(category).unwrap_or(self.level);
        level >= filtered && level >= self.output_level_min()
    }

    pub(super) fn output_level_min(&self) -> Level {
        self.sinks.iter().map(|sink| sink.output.level).min().unwrap_or(Level::Error)
    }

    /// Writes a record unless its call site repeats too fast. Records enabled by a filter are
    /// always written.
    pub(super) fn write_unless_repeated(&mut self, record: &Record<'_>, place: Identifier) {
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
