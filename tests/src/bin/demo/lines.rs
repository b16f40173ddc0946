//! The numbered lines that guests write, and judging a log of them.

use crate::failure::Failure;

/// Bytes of a line with its newline. No power of two, so that a log's size limit falls inside one.
pub(crate) const LINE_BYTES: usize = 50;

/// One line of a guest.
pub(crate) fn line(guest: &str, number: u32) -> String {
    let text = format!("{guest}: this is line {number}, ");
    format!("{text:.<width$}\n", width = LINE_BYTES - 1)
}

/// Checks that `log` is the guest's lines 1 to `last`, each once and in order, and nothing else.
pub(crate) fn check(guest: &str, last: u32, log: &[u8]) -> Result<(), Failure> {
    let mut stored = log.split_inclusive(|&byte| byte == b'\n');
    for number in 1..=last {
        let (expected, found) = (line(guest, number), stored.next().unwrap_or_default());
        if found != expected.as_bytes() {
            return Err(Failure::Promise(format!(
                "in the place of line {number} of {last} the log has '{}'",
                found.escape_ascii()
            )));
        }
    }
    match stored.next() {
        None => Ok(()),
        Some(more) => Err(Failure::Promise(format!(
            "after the last line the log has '{}'",
            more.escape_ascii()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|&number| line("alpha", number).into_bytes()).collect()
    }

    #[test]
    fn a_line_has_its_length() {
        assert_eq!(line("alpha", 1).len(), LINE_BYTES);
        assert_eq!(line("alpha", 10_000).len(), LINE_BYTES);
    }

    #[test]
    fn only_all_lines_in_order_will_do() {
        assert!(check("alpha", 3, &log(&[1, 2, 3])).is_ok());
        for wrong in [&[1, 3][..], &[1, 2], &[1, 2, 2, 3], &[1, 3, 2], &[1, 2, 3, 4], &[]] {
            assert!(check("alpha", 3, &log(wrong)).is_err(), "{wrong:?}");
        }
        assert!(check("alpha", 3, &log(&[1, 2, 3])[..149]).is_err());
        assert!(check("beta", 3, &log(&[1, 2, 3])).is_err());
    }
}
