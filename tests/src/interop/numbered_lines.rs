//! Judging a log of numbered lines.

use std::ops::RangeInclusive;

use super::BootSector;

/// Checks that `log` is lines 1 to `last` of `boot`, each once and in order, and nothing else.
///
/// # Panics
///
/// When it is not.
pub fn complete(boot: &BootSector, last: u32, log: &[u8]) {
    assert_eq!(consecutive(boot, log), 1..=last, "lines of the log");
    let lines = usize::try_from(last).expect("lines fit memory");
    assert_eq!(log.len(), lines * BootSector::LINE_BYTES, "bytes of the log");
}

/// Checks that `log` is a gapless run of the lines of `boot`, and returns which ones. Of the first
/// and the last line only parts may be there; those are left out of the result.
///
/// # Panics
///
/// At a gap, a line out of order, bytes that are no line, or when no line is whole.
pub fn consecutive(boot: &BootSector, log: &[u8]) -> RangeInclusive<u32> {
    let whole = without_partial_ends(boot, log);
    let mut numbers = whole.chunks(BootSector::LINE_BYTES).map(|line| number(boot, line));
    let first = numbers.next().expect("no whole line in the log");
    let last = numbers.fold(first, |previous, number| {
        assert_eq!(number, previous + 1, "line after {previous}");
        number
    });
    first..=last
}

fn without_partial_ends<'a>(boot: &BootSector, log: &'a [u8]) -> &'a [u8] {
    let end = log.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let start = if log.starts_with(&boot.word()) {
        0
    } else {
        log.iter().position(|&byte| byte == b'\n').map_or(end, |at| at + 1)
    };
    assert!(start < BootSector::LINE_BYTES, "the log begins with what is no line's end");
    &log[start..end]
}

/// A guest counts in eight digits. After 100,000,000 lines, half an hour of a fast one, it carries into
/// the blank in front of them.
fn number(boot: &BootSector, line: &[u8]) -> u32 {
    const DIGITS: u32 = 8;
    let parsed = line.strip_prefix(&boot.word()).and_then(|rest| {
        let (blank, rest) = rest.split_first()?;
        let carried = u32::from(blank.checked_sub(b' ')?);
        let digits = str::from_utf8(rest).ok()?.strip_suffix('\n')?;
        carried.checked_mul(10_u32.pow(DIGITS))?.checked_add(digits.parse().ok()?)
    });
    parsed.unwrap_or_else(|| panic!("no line: {}", line.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> BootSector {
        BootSector::ticking(*b"alfa")
    }

    #[test]
    fn whole_and_partial_lines() {
        let log = b"alfa 00000001\nalfa 00000002\n";
        complete(&boot(), 2, log);
        assert_eq!(consecutive(&boot(), &log[3..]), 2..=2);
        assert_eq!(consecutive(&boot(), &log[..20]), 1..=1);
    }

    #[test]
    fn more_lines_than_digits_can_count() {
        assert_eq!(
            consecutive(&boot(), b"alfa 99999999\nalfa!00000000\nalfa!00000001\n"),
            99_999_999..=100_000_001
        );
    }

    #[test]
    #[should_panic(expected = "line after 1")]
    fn gap() {
        consecutive(&boot(), b"alfa 00000001\nalfa 00000003\n");
    }

    #[test]
    #[should_panic(expected = "no line")]
    fn line_of_another_guest() {
        consecutive(&boot(), b"alfa 00000001\nbeta 00000002\n");
    }

    #[test]
    #[should_panic(expected = "lines of the log")]
    fn missing_end() {
        complete(&boot(), 2, b"alfa 00000001\nalfa 000");
    }
}
