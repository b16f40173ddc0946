//! A message with its metadata, as text.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use super::Level;

/// Bytes of one message; a longer one is cut. Ours: above the total of names that a client can
/// send.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Suffix of a cut message.
const CUT_MARK: &str = "...";

/// A message on its way to the outputs.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) level: Level,
    pub(super) time: SystemTime,
    /// Pid. libvirt logs the thread's id; it has one thread.
    pub(super) process: u32,
    /// libvirt's category, for filters.
    pub(super) category: &'a str,
    /// Call site; the first lines of an output have none.
    pub(super) place: Option<Place<'a>>,
    /// A single line: nothing in it can end or imitate another.
    pub(super) text: String,
    /// Fields of an entry in the journal, single lines too.
    pub(super) fields: Vec<(&'static str, String)>,
}

/// A call site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) line: u32,
    pub(super) module: &'a str,
}

impl<'a> Record<'a> {
    /// Makes a record of `event`, with the present time.
    pub(super) fn of(event: &Event<'_>, metadata: &'a Metadata<'a>) -> Self {
        let mut content = Content::default();
        event.record(&mut content);
        Self {
            level: (*metadata.level()).into(),
            time: SystemTime::now(),
            process: std::process::id(),
            category: metadata.target(),
            place: Some(Place {
                file: metadata.file().unwrap_or_default(),
                line: metadata.line().unwrap_or_default(),
                module: metadata.module_path().unwrap_or_default(),
            }),
            text: content.text.into_line(),
            fields: content.fields,
        }
    }

    /// Makes the report of lost messages.
    pub(super) fn of_lost(messages: u64) -> Record<'static> {
        Record {
            level: Level::Warning,
            time: SystemTime::now(),
            process: std::process::id(),
            category: "daemon",
            place: None,
            text: format!("{messages} log messages could not be written here and are lost"),
            fields: Vec::new(),
        }
    }

    /// Makes another message at the same time.
    pub(super) fn beside(&self, level: Level, text: String) -> Self {
        Self { level, place: None, text, fields: Vec::new(), ..self.clone() }
    }

    /// Formats a line of a log file.
    pub(super) fn line(&self) -> String {
        format!("{}: {}\n", Utc(self.time), self.body())
    }

    /// Formats the line without time and newline.
    pub(super) fn body(&self) -> String {
        let Self { process, text, .. } = self;
        let level = self.level.word();
        match self.place {
            Some(Place { line, module, .. }) => {
                let function = module.rsplit("::").next().unwrap_or_default();
                format!("{process}: {level} : {function}:{line} : {text}")
            }
            None => format!("{process}: {level} : {text}"),
        }
    }
}

/// Formats `time` like libvirt: `2026-11-22 13:50:22.821+0000`.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    Utc(time).to_string()
}

struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY_S: u64 = 24 * 60 * 60;
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (day, second) = (since.as_secs() / DAY_S, since.as_secs() % DAY_S);
        let (year, month, day) = date(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(formatter, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")?;
        write!(formatter, ".{:03}+0000", since.subsec_millis())
    }
}

/// Returns year, month and day of the `day`th day after 1 January 1970.
///
/// Years are counted from March, so that the leap day is a year's last. The months before it have a
/// pattern of 153 days for every five.
fn date(day: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 400 * 365 + 97;
    const MARCH_OF_YEAR_0_TO_1970_DAYS: u64 = 719_468;
    let day = day.saturating_add(MARCH_OF_YEAR_0_TO_1970_DAYS);
    let (era, day) = (day / ERA_DAYS, day % ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / (ERA_DAYS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day_of_month)
}

/// Collects an event's message and fields.
///
/// A field whose name is in capitals is for the journal alone, under that name. Others follow the
/// message as ` name=value`.
#[derive(Default)]
struct Content {
    text: Line,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Content {
    /// A string stands without quotes in a field of the journal.
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_journals(field) {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        let written = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name if is_journals(field) => {
                let mut line = Line::default();
                let written = write!(line, "{value:?}");
                self.fields.push((name, line.into_line()));
                written
            }
            name => write!(self.text, " {name}={value:?}"),
        };
        // Only a value's own implementation can fail; what it wrote before stays.
        self.text.is_cut |= written.is_err();
    }
}

/// Returns whether a field is for the journal alone.
fn is_journals(field: &Field) -> bool {
    field.name().starts_with(|first: char| first.is_ascii_uppercase())
}

/// Text on a single line.
///
/// Control characters are escaped: names and paths come from peers, and a newline in one would let
/// them forge lines of the log.
#[derive(Default)]
struct Line {
    text: String,
    is_cut: bool,
}

impl Line {
    fn into_line(mut self) -> String {
        if self.is_cut {
            self.text.push_str(CUT_MARK);
        }
        self.text
    }

    fn push(&mut self, piece: impl Iterator<Item = char>) {
        self.text.extend(piece);
        self.is_cut = self.text.len() >= MESSAGE_BYTES_MAX;
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.is_cut {
                break;
            }
            if character.is_control() {
                self.push(character.escape_default());
            } else {
                self.push(std::iter::once(character));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
