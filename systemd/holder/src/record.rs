//! Names under which the holder keeps what it holds in a store of its own, that of the host's
//! supervisor. They are all that the next process is told.

/// Bytes of a set's name. Ours: with it a name of systemd's length still fits one of its own, if
/// that is not longer than 220 bytes.
pub(crate) const SET_NAME_BYTES_MAX: usize = 32;

/// What an fd in that store is. Each begins with the name of its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// An fd of the daemon's.
    Item { name: &'a str, is_watched: bool },
    /// The process that has the set, with its pid.
    Claim { pid: i32 },
    /// A listening socket of the daemon's.
    Listener { name: &'a str },
    /// The socket for messages.
    Messages,
    /// The socket for claims.
    Claims,
}

impl<'a> Record<'a> {
    /// Formats the name.
    pub(crate) fn name(&self, set: &str) -> String {
        match self {
            Self::Item { name, is_watched: false } => format!("{set}/{name}"),
            Self::Item { name, is_watched: true } => format!("{set}~{name}"),
            Self::Claim { pid } => format!("{set}@{pid}"),
            // The last character, as a name that ends in `.socket` is not that of a stored fd.
            Self::Listener { name } => format!("{set}={name}="),
            Self::Messages => format!("{set}!messages"),
            Self::Claims => format!("{set}!claims"),
        }
    }

    /// Parses a name into that of the set and the rest.
    pub(crate) fn parse(text: &'a str) -> Option<(&'a str, Self)> {
        let end = text.find(|character: char| !is_of_set(character))?;
        let (set, rest) = text.split_at_checked(end)?;
        let (kind, rest) = rest.split_at_checked(1)?;
        let record = match (kind, rest) {
            ("/", name) => Self::Item { name, is_watched: false },
            ("~", name) => Self::Item { name, is_watched: true },
            ("@", pid) => Self::Claim { pid: pid.parse().ok()? },
            ("=", name) => Self::Listener { name: name.strip_suffix('=')? },
            ("!", "messages") => Self::Messages,
            ("!", "claims") => Self::Claims,
            _ => return None,
        };
        Some((set, record))
    }
}

/// Returns whether a set can have this name: up to 32 letters, digits, `-` and `_`.
pub(crate) fn is_set_name(name: &str) -> bool {
    (1..=SET_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_of_set)
}

fn is_of_set(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_is() {
        for record in [
            Record::Item { name: "l1", is_watched: false },
            Record::Item { name: "a/b~c@d", is_watched: true },
            Record::Claim { pid: 7 },
            Record::Listener { name: "virtlogd.socket" },
            Record::Messages,
            Record::Claims,
        ] {
            let name = record.name("virt-log_d");
            assert_eq!(Record::parse(&name), Some(("virt-log_d", record)));
            assert!(!name.ends_with(".socket"));
        }
        for text in ["", "set", "set!x", "set@x", "set=x", "set.x"] {
            assert_eq!(Record::parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_of_sets_are_plain() {
        assert!(is_set_name("virtlogd") && is_set_name(&"x".repeat(32)));
        for name in ["", "a/b", "a b", "..", "é", &"x".repeat(33)] {
            assert!(!is_set_name(name), "{name}");
        }
    }
}
