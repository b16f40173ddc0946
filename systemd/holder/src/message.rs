//! What a daemon tells: the lines of `sd_notify(3)`, as systemd reads them.

/// Bytes of a message, systemd's limit. A longer one is dropped.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4096;

/// Bytes of a name, systemd's limit.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// Name of an fd that came without one, or with one that is invalid, as in systemd.
const NAMELESS: &str = "stored";

/// What a message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// Keep the fds that came along.
    Store {
        /// Their name.
        name: &'a str,
        /// Drop one when its other end is closed.
        is_watched: bool,
    },
    /// Drop all fds of this name.
    Remove(&'a str),
    /// Close the fd that came along, once everything before has been seen to.
    Barrier,
    /// Nothing that concerns fds.
    Other(State<'a>),
}

/// What a daemon says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct State<'a> {
    pub(crate) is_ready: bool,
    pub(crate) status: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Parses a message; `None` for one that systemd would not look at. Unknown lines are ignored.
    pub(crate) fn parse(message: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(message).ok()?.trim_end_matches('\0');
        if text.contains('\0') {
            return None;
        }
        let lines = || text.lines().filter(|line| !line.is_empty());
        let has = |wanted: &str| lines().any(|line| line == wanted);
        let value = |key: &str| lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        if has("BARRIER=1") {
            // Alone, as systemd demands.
            return (lines().count() == 1).then_some(Self::Barrier);
        }
        let name = value("FDNAME").filter(|name| is_name(name));
        if has("FDSTOREREMOVE=1") {
            return name.map(Self::Remove);
        }
        if has("FDSTORE=1") {
            let name = name.unwrap_or(NAMELESS);
            return Some(Self::Store { name, is_watched: !has("FDPOLL=0") });
        }
        Some(Self::Other(State { is_ready: has("READY=1"), status: value("STATUS") }))
    }
}

/// Returns whether systemd accepts a name: 255 printable ASCII characters except `:`.
pub(crate) fn is_name(name: &str) -> bool {
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b':';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Request<'_>> {
        Request::parse(text.as_bytes())
    }

    #[test]
    fn fds_are_stored_under_the_first_valid_name() {
        let stored = |name, is_watched| Some(Request::Store { name, is_watched });
        assert_eq!(parse("FDSTORE=1\nFDPOLL=0\nFDNAME=l1"), stored("l1", false));
        assert_eq!(parse("FDNAME=a b/c\nFDSTORE=1\nFDNAME=d"), stored("a b/c", true));
        let long = format!("FDSTORE=1\nFDNAME={}", "x".repeat(NAME_BYTES_MAX + 1));
        for text in ["FDSTORE=1", "FDSTORE=1\nFDNAME=a:b", "FDSTORE=1\nFDNAME=", &long] {
            assert_eq!(parse(text), stored("stored", true), "{text}");
        }
    }

    #[test]
    fn a_removal_needs_a_name_and_comes_first() {
        assert_eq!(parse("FDSTOREREMOVE=1\nFDNAME=l1\nFDSTORE=1"), Some(Request::Remove("l1")));
        assert_eq!(parse("FDSTOREREMOVE=1\nFDNAME=a:b"), None);
        assert_eq!(parse("FDSTOREREMOVE=1"), None);
    }

    #[test]
    fn a_barrier_stands_alone() {
        assert_eq!(parse("BARRIER=1\n"), Some(Request::Barrier));
        assert_eq!(parse("BARRIER=1\nFDSTORE=1"), None);
    }

    #[test]
    fn what_concerns_no_fds_is_the_daemons_state() {
        let state = State { is_ready: true, status: Some("a=b") };
        assert_eq!(parse("READY=1\nSTATUS=a=b\nWATCHDOG=1\nnonsense"), Some(Request::Other(state)));
        assert_eq!(parse("FDSTORE=0\nFDNAME=x"), Some(Request::Other(State::default())));
        assert_eq!(Request::parse(b"FDSTORE=1\0FDNAME=x"), None);
        assert_eq!(Request::parse(b"FDSTORE=1\xff"), None);
    }
}
