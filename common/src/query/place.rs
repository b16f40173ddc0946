//! Places of items in the list.

use std::fmt;

/// Place of an item in the list. It never changes while the item is there, and no other item gets
/// it later. As text it is a cursor: what was there throughout is listed once, whatever comes and goes
/// between two pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the log or lease, in the order in which the daemon got them.
    pub number: u64,
    /// Number of the holder of a lease; 0 for a log.
    pub holder: u64,
}

impl Place {
    /// Returns the place of a text; an empty one is before all items.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { digits.parse().ok() } else { None }
        };
        match text.split_once('.') {
            _ if text.is_empty() => Some(Self::default()),
            Some((log, holder)) => Some(Self { number: number(log)?, holder: number(holder)? }),
            None => Some(Self { number: number(text)?, holder: 0 }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { number, holder: 0 } => write!(formatter, "{number}"),
            Self { number, holder } => write!(formatter, "{number}.{holder}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_they_are_written() {
        for (number, holder) in [(0, 0), (1, 0), (7, 3), (u64::MAX, u64::MAX)] {
            let place = Place { number, holder };
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        assert_eq!(Place::parse(""), Some(Place::default()));
    }

    #[test]
    fn anything_else_is_no_place() {
        for text in [".", "1.", ".1", "-1", "+1", "1.2.3", " 1", "1e3", "18446744073709551616"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
