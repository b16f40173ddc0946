//! Texts for people.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::logging::timestamp;

/// Bytes of a timestamp without fractions of a second: `2026-11-22 13:50:22`.
const SECONDS_BYTES: usize = 19;

/// Returns a number of bytes as three digits and a unit of 1024: `0`, `512`, `1.5K`, `20M`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if count < 1024 {
        return count.to_string();
    }
    let mut tenths = u128::from(count) * 10;
    let mut unit = "";
    for next in UNITS {
        if tenths < 10 * 1024 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    match tenths {
        ..100 => format!("{}.{}{unit}", tenths / 10, tenths % 10),
        _ => format!("{}{unit}", tenths / 10),
    }
}

/// Returns a time in UTC, to the second: `2026-11-22 13:50:22Z`.
#[must_use]
pub fn time(unix_s: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix_s));
    let text = timestamp(time.unwrap_or(SystemTime::UNIX_EPOCH));
    format!("{}Z", text.get(..SECONDS_BYTES).unwrap_or(&text))
}

/// Returns a text on one line, without what would control a terminal: guests and clients choose names
/// and paths.
#[must_use]
pub fn escaped(text: &str) -> String {
    let is_odd = |letter: char| letter.is_control() || is_invisible(letter);
    if !text.contains(is_odd) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_odd(letter) {
            // A string takes everything.
            write!(escaped, "{}", letter.escape_default()).ok();
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// Returns whether a letter changes how others are shown: separators of lines, and directions of
/// writing.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_few_digits() {
        for (count, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (10_188, "9.9K"),
            (10_240, "10K"),
            (1_048_575, "1023K"),
            (1_048_576, "1.0M"),
            (u64::MAX, "15E"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(1_763_819_422), "2025-11-22 13:50:22Z");
        assert_eq!(time(u64::MAX), "1970-01-01 00:00:00Z");
    }

    #[test]
    fn nothing_controls_a_terminal() {
        assert_eq!(escaped("ä/b\u{1b}[2J\n\u{202e}x\u{7f}"), "ä/b\\u{1b}[2J\\n\\u{202e}x\\u{7f}");
    }
}
