//! Outputs: destinations with a level each.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::{Invalid, Level};

/// Outputs in one setting, each of which may hold an fd. Ours.
pub const OUTPUTS_MAX: usize = 64;

/// Destination of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The file open as fd 2 at the time.
    Stderr,
    /// The system log, under this name.
    Syslog(String),
    /// A file, opened for appending. The path is absolute, and normalized by its text.
    File(PathBuf),
    /// systemd's journal.
    Journald,
}

/// A destination with the lowest level that goes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Lowest level.
    pub level: Level,
    /// Destination.
    pub destination: Destination,
}

/// A list of outputs with distinct destinations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs(Vec<Output>);

impl Outputs {
    /// Parses items `LEVEL:DESTINATION` separated by spaces. Relative paths start at `directory`;
    /// of equal destinations the last one counts, in its place.
    ///
    /// # Errors
    /// The first invalid item, or more than [`OUTPUTS_MAX`] items.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Invalid> {
        let mut outputs: Vec<Output> = Vec::new();
        for item in text.split(' ').filter(|item| !item.is_empty()) {
            let output = Output::parse(item, directory)?;
            outputs.retain(|earlier| earlier.destination != output.destination);
            if outputs.len() == OUTPUTS_MAX {
                return Err(Invalid::TooMany { what: "log outputs", max: OUTPUTS_MAX });
            }
            outputs.push(output);
        }
        Ok(Self(outputs))
    }

    /// Returns the outputs as items that can be parsed again: `3:stderr`.
    #[must_use]
    pub fn items(&self) -> Vec<String> {
        self.0.iter().map(Output::to_string).collect()
    }

    /// Returns the number of outputs.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the outputs in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Output> {
        self.0.iter()
    }
}

impl From<Output> for Outputs {
    fn from(output: Output) -> Self {
        Self(vec![output])
    }
}

impl fmt::Display for Outputs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.items().join(" "))
    }
}

impl Output {
    fn parse(item: &str, directory: &Path) -> Result<Self, Invalid> {
        let parts: Vec<&str> = item.split(':').collect();
        let [level, destination, rest @ ..] = parts.as_slice() else {
            return Err(Invalid::OutputFormat(item.into()));
        };
        let level = Level::from_item(level)
            .ok_or_else(|| Invalid::OutputLevel { level: (*level).into(), item: item.into() })?;
        let destination = match (*destination, rest) {
            ("stderr", []) => Destination::Stderr,
            ("journald", []) => Destination::Journald,
            ("syslog", [ident]) => Destination::Syslog((*ident).into()),
            ("file", [path]) => Destination::File(resolve_by_text(path, directory)),
            ("stderr" | "journald" | "syslog" | "file", _) => {
                return Err(Invalid::OutputParts {
                    destination: (*destination).into(),
                    item: item.into(),
                });
            }
            (unknown, _) => {
                let destination = unknown.into();
                return Err(Invalid::OutputDestination { destination, item: item.into() });
            }
        };
        Ok(Self { level, destination })
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.level.number(), self.destination)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => formatter.write_str("stderr"),
            Self::Syslog(ident) => write!(formatter, "syslog:{ident}"),
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Journald => formatter.write_str("journald"),
        }
    }
}

/// Normalizes `path` to an absolute one without `.`, `..` and superfluous slashes. By the text
/// alone, as `GLib` does it for libvirt: a directory before `..` need not exist, and may be a link.
fn resolve_by_text(path: &str, directory: &Path) -> PathBuf {
    // POSIX gives two leading slashes a meaning of their own, and `GLib` leaves them.
    let root = if path.starts_with("//") && !path.starts_with("///") { "//" } else { "/" };
    let mut names: Vec<&OsStr> = Vec::new();
    let whole = directory.join(path);
    for component in whole.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    [OsStr::new(root), &names.join(OsStr::new("/"))].into_iter().collect::<OsString>().into()
}

#[cfg(test)]
mod tests;
