//! Text of guests for whoever reads it.

use std::io::{self, IsTerminal, Write, stdout};

/// Writes text of a guest: as it is, but a terminal gets nothing that would control it.
#[derive(Debug)]
pub(crate) struct Shown<W> {
    out: W,
    is_terminal: bool,
    before: u8,
}

impl<W: Write> Shown<W> {
    /// Makes one that writes to `out`, which is the standard output.
    pub(crate) fn new(out: W) -> Self {
        Self::with(out, stdout().is_terminal())
    }

    fn with(out: W, is_terminal: bool) -> Self {
        Self { out, is_terminal, before: 0 }
    }

    fn show(&mut self, byte: u8) -> io::Result<()> {
        // The first byte of U+0080 to U+009F in UTF-8, which control a terminal as well.
        let is_after_c2 = std::mem::replace(&mut self.before, byte) == 0xc2;
        match byte {
            0x80..=0x9f if is_after_c2 => self.out.write_all(b"?"),
            b'\n' | b'\t' | b' '..=b'~' | 0x80.. => self.out.write_all(&[byte]),
            b'\r' => Ok(()),
            0x7f => self.out.write_all(b"^?"),
            control => write!(self.out, "^{}", char::from(control | 0x40)),
        }
    }
}

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return self.out.write(bytes);
        }
        bytes.iter().try_for_each(|&byte| self.show(byte))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_does_not_control_the_terminal() {
        let mut shown = Vec::new();
        let text = b"\x1b[2J\xc3\xa4\xc2\x9b2J\x7f\t1\r\n";
        Shown::with(&mut shown, true).write_all(text).unwrap();
        assert_eq!(shown, b"^[[2J\xc3\xa4\xc2?2J^?\t1\n");
        shown.clear();
        Shown::with(&mut shown, false).write_all(text).unwrap();
        assert_eq!(shown, text);
    }
}
