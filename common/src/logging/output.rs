//! Where messages go.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::{Invalid, Level};

/// Outputs in one setting, each of which may hold an fd. Ours.
pub const OUTPUTS_MAX: usize = 64;

/// A place for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Whatever fd 2 is at the time.
    Stderr,
    /// The system log, under this name.
    Syslog(String),
    /// A file, which is appended to. The path is absolute, and resolved by its text.
    File(PathBuf),
    /// systemd's journal.
    Journald,
}

/// A destination and the least level of what goes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Messages below are left out.
    pub level: Level,
    /// Where the others go.
    pub destination: Destination,
}

/// A list of outputs, no destination twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs(Vec<Output>);

impl Outputs {
    /// Reads items `LEVEL:DESTINATION` separated by spaces. Relative paths are taken from
    /// `directory`; of equal destinations the last one counts, where it stands.
    ///
    /// # Errors
    /// The first item that is wrong, or that there are more than [`OUTPUTS_MAX`].
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

    /// The outputs one by one, as they are read back: `3:stderr`.
    #[must_use]
    pub fn items(&self) -> Vec<String> {
        self.0.iter().map(Output::to_string).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The outputs in their order.
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

/// `path` from the root, without `.`, `..` and needless slashes. It is done by the text alone, as `GLib`
/// does it for libvirt: a directory in front of `..` need not be there, and may be a link.
fn resolve_by_text(path: &str, directory: &Path) -> PathBuf {
    // Two slashes may mean something else than one, says POSIX, and `GLib` leaves them.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Outputs, Invalid> {
        Outputs::parse(text, Path::new("/run"))
    }

    #[test]
    fn outputs_read_back_as_libvirt_writes_them() {
        let cases = [
            ("", "", 0),
            ("   ", "", 0),
            ("3:stderr", "3:stderr", 1),
            (" 1:file:/x.log   03:stderr ", "1:file:/x.log 3:stderr", 2),
            ("1:file:relative.log", "1:file:/run/relative.log", 1),
            ("1:file:./r.log", "1:file:/run/r.log", 1),
            ("1:file:w/../r.log", "1:file:/run/r.log", 1),
            ("1:file:../../a//./b/../r.log/.", "1:file:/a/r.log", 1),
            ("1:file://x/../r.log", "1:file://r.log", 1),
            ("1:file:///r.log//", "1:file:/r.log", 1),
            ("1:file:..", "1:file:/", 1),
            ("1:file:", "1:file:/run", 1),
            ("3:syslog:abc +2:syslog:", "3:syslog:abc 2:syslog:", 2),
            ("3:journald", "3:journald", 1),
            ("1:stderr 2:journald 4:stderr", "2:journald 4:stderr", 2),
            ("1:file:/a 2:file:/b 3:file:/a", "2:file:/b 3:file:/a", 2),
            ("1:file:/a 2:file:/b/../a", "2:file:/a", 1),
        ];
        for (text, shown, count) in cases {
            let outputs = parse(text).unwrap();
            assert_eq!(outputs.to_string(), shown, "{text:?}");
            assert_eq!(outputs.count(), count, "{text:?}");
        }
    }

    #[test]
    fn errors_are_libvirts() {
        let parts = |item: &str, destination: &str| {
            format!(
                "Log output '{item}' does not meet the format requirements for destination type \
                 '{destination}'"
            )
        };
        let level = |level: &str, item: &str| {
            format!("Invalid log priority '{level}' for log output '{item}'")
        };
        let destination = |destination: &str, item: &str| {
            format!("Invalid log destination '{destination}' for log output '{item}'")
        };
        let cases = [
            ("1", "Malformed format for log output '1'".to_owned()),
            ("x", "Malformed format for log output 'x'".to_owned()),
            (":", level("", ":")),
            (":stderr", level("", ":stderr")),
            ("x:stderr", level("x", "x:stderr")),
            ("9:stderr", level("9", "9:stderr")),
            ("-1:stderr", level("-1", "-1:stderr")),
            ("5:nosuch:x", level("5", "5:nosuch:x")),
            ("4294967297:stderr", level("4294967297", "4294967297:stderr")),
            ("1:", destination("", "1:")),
            ("1:bogus", destination("bogus", "1:bogus")),
            ("1:FILE:/x", destination("FILE", "1:FILE:/x")),
            ("1:file", parts("1:file", "file")),
            ("1:file:/a:b", parts("1:file:/a:b", "file")),
            ("1:syslog", parts("1:syslog", "syslog")),
            ("1:stderr:", parts("1:stderr:", "stderr")),
            ("1:stderr:foo", parts("1:stderr:foo", "stderr")),
            ("1:journald:x", parts("1:journald:x", "journald")),
            ("1:stderr 1:bogus", destination("bogus", "1:bogus")),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), error, "{text:?}");
        }
    }

    #[test]
    fn the_number_of_outputs_is_limited() {
        let files = |count: usize| (0..count).map(|n| format!("1:file:/{n} ")).collect::<String>();
        assert!(parse(&files(OUTPUTS_MAX)).is_ok());
        let error = parse(&files(OUTPUTS_MAX + 1)).unwrap_err();
        assert_eq!(error.to_string(), "more than 64 log outputs");
        assert!(parse(&"1:stderr ".repeat(1000)).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_read_back_can_be_set_again(
            text in "([1-4]:(stderr|journald|syslog:[a-c]?|file:/?[a-c]{1,3}) ){0,6}",
        ) {
            let outputs = parse(&text).unwrap();
            prop_assert_eq!(parse(&outputs.to_string()).unwrap(), outputs);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[1-5:a-z/ ]{0,40}|\\PC{0,40}") {
            drop(parse(&text));
        }
    }
}
