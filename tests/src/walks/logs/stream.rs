//! What a guest writes: a stream of numbered lines, known to whoever knows the guest's number.

/// Bytes of the longest line, with its newline. Short enough for several to be one atomic write.
pub(super) const LINE_BYTES_MAX: usize = 1_500;

/// Made as far as somebody has asked for it.
#[derive(Debug)]
pub(super) struct Stream {
    guest: u64,
    next: u64,
    made: Vec<u8>,
}

impl Stream {
    pub(super) fn of(guest: u64) -> Self {
        Self { guest, next: 0, made: Vec::new() }
    }

    /// Its first `len` bytes.
    pub(super) fn beginning(&mut self, len: usize) -> &[u8] {
        while self.made.len() < len {
            self.add_line();
        }
        &self.made[..len]
    }

    /// Whole lines from `start` on, where one begins: as many as fit `len` bytes, but one at least.
    pub(super) fn lines(&mut self, start: usize, len: usize) -> &[u8] {
        self.beginning(start + len + LINE_BYTES_MAX);
        let part = &self.made[start..];
        let is_newline = |&byte: &u8| byte == b'\n';
        let end = part[..len.max(1)].iter().rposition(is_newline);
        let end = end.or_else(|| part.iter().position(is_newline)).expect("lines end");
        &part[..=end]
    }

    fn add_line(&mut self) {
        let (number, guest) = (self.next, self.guest);
        let filler = match number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56 {
            dice @ 0..250 => dice % 120,
            dice => 200 * (dice - 249),
        };
        self.made.extend(format!("g{guest}.{number} ").bytes());
        self.made.extend((number..number + filler).map(|digit| b'0' + (digit % 10) as u8));
        self.made.push(b'\n');
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole() {
        let mut stream = Stream::of(3);
        let mut start = 0;
        for len in [1, 1, 4_000, 10, 700, 100_000] {
            let lines = stream.lines(start, len).to_vec();
            assert!(lines.starts_with(b"g3.") && lines.ends_with(b"\n"));
            assert!(lines.len() <= len.max(LINE_BYTES_MAX), "{len}");
            start += lines.len();
            assert!(stream.beginning(start).ends_with(&lines));
        }
    }
}
