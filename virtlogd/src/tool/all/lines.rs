//! Lines of a log: how its bytes are cut.

/// Bytes of a line. A longer one is cut in pieces.
pub(super) const LINE_BYTES_MAX: usize = 16_384;

/// Reason why a piece of text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The line is complete.
    Newline,
    /// The line is longer than [`LINE_BYTES_MAX`].
    Length,
    /// The rest of the line has not come for a while.
    Time,
    /// The log has ended, or its next part is gone.
    End,
}

/// A line, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Its bytes, without the newline and a carriage return before it.
    pub(super) text: &'a [u8],
    pub(super) ending: Ending,
    /// Bytes that it takes in the log.
    pub(super) len: usize,
}

impl Ending {
    /// Returns the name of the reason, unless the line is complete.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Newline => None,
            Self::Length => Some("length"),
            Self::Time => Some("time"),
            Self::End => Some("end"),
        }
    }
}

impl<'a> Piece<'a> {
    /// Returns the first line of some bytes, or a piece of it if it is too long. Half a line is none.
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        let within = bytes.get(..=LINE_BYTES_MAX).unwrap_or(bytes);
        if let Some(len) = within.iter().position(|&byte| byte == b'\n') {
            let line = bytes.get(..len).unwrap_or_default();
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            return Some(Self { text, ending: Ending::Newline, len: len + 1 });
        }
        if within.len() <= LINE_BYTES_MAX {
            return None;
        }
        let len = cut(within);
        Some(Self { text: bytes.get(..len).unwrap_or_default(), ending: Ending::Length, len })
    }

    /// Returns half a line that is not waited for any longer.
    pub(super) fn half(bytes: &'a [u8], ending: Ending) -> Self {
        Self { text: bytes, ending, len: bytes.len() }
    }
}

/// Returns where too long a line is cut: in front of a character, if it is UTF-8.
fn cut(bytes: &[u8]) -> usize {
    let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let places = (LINE_BYTES_MAX - 3..=LINE_BYTES_MAX).rev();
    places.into_iter().find(|&at| !is_inside(at)).unwrap_or(LINE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(mut bytes: &[u8]) -> (Vec<(&[u8], Ending)>, &[u8]) {
        let mut found = Vec::new();
        while let Some(piece) = Piece::first(bytes) {
            found.push((piece.text, piece.ending));
            bytes = &bytes[piece.len..];
        }
        (found, bytes)
    }

    #[test]
    fn lines_end_at_newlines() {
        let (found, rest) = pieces(b"one\r\n\ntwo\rthree\nhalf\r");
        let lines = [&b"one"[..], b"", b"two\rthree"].map(|text| (text, Ending::Newline));
        assert_eq!((&found[..], rest), (&lines[..], &b"half\r"[..]));
    }

    #[test]
    fn a_long_line_is_cut() {
        let longest = [&[b'x'; LINE_BYTES_MAX][..], b"\n"].concat();
        assert_eq!(pieces(&longest).0, [(&longest[..LINE_BYTES_MAX], Ending::Newline)]);
        assert_eq!(Piece::first(&longest[..LINE_BYTES_MAX]), None, "its newline may come");
        let long = [b'x'; 2 * LINE_BYTES_MAX + 5];
        let (found, rest) = pieces(&long);
        let whole = (&long[..LINE_BYTES_MAX], Ending::Length);
        assert_eq!((&found[..], rest), (&[whole; 2][..], &b"xxxxx"[..]));
    }

    #[test]
    fn a_cut_splits_no_character() {
        let text = "\u{20ac}".repeat(LINE_BYTES_MAX);
        let (found, rest) = pieces(text.as_bytes());
        for (piece, _) in found.iter().chain(&[(rest, Ending::End)]) {
            str::from_utf8(piece).expect("whole characters");
        }
        let no_text = [0x80; LINE_BYTES_MAX + 1];
        assert_eq!(Piece::first(&no_text).map(|piece| piece.len), Some(LINE_BYTES_MAX));
    }
}
