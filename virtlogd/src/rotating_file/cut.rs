//! Cut between one log file and the next: a rule on the stream of bytes, without I/O.
//!
//! libvirt's rule, applied to the stream instead of to whatever one `read` returned: when a byte
//! arrives that no longer fits, the file is cut after the last newline among the last
//! [`WINDOW_BYTES`] bytes that fit, or else at its full size. Nothing moves before that byte
//! arrives, so a file may stay exactly full.
//!
//! Three facts make the rule exact although bytes cannot be taken back once they are stored:
//!
//! - Before the window no newline matters, so those bytes are stored without being seen.
//! - A newline in the window is a legal cut until a later one replaces it. Stored bytes end there
//!   (`ends_line`), and the partial line behind it waits outside the file, at most 79 bytes.
//! - With no newline in the window so far the only cut is one still to come, so a partial line is
//!   stored at once.
//!
//! A flush stores the waiting part too. The cut in front of it is then lost, as it is in libvirt
//! for a newline that an earlier `read` returned.

/// Bytes in front of a file's full size in which a newline is looked for; libvirt's value.
const WINDOW_BYTES: u64 = 80;

/// Next step for the bytes that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutStep {
    /// Store this many bytes, or fewer if fewer wait, and report them to [`Cut::stored`].
    Write {
        /// Bytes to store at the most.
        len: u64,
        /// The last of them is a newline that the file may be cut after.
        ends_line: bool,
    },
    /// Go on in a new file.
    Rotate,
    /// Nothing can be decided before more bytes or a flush arrive.
    Hold,
}

/// Fill of one file.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pos: u64,
    size_bytes_max: u64,
    ends_line: bool,
}

impl Cut {
    /// Makes a file that holds `pos` bytes that were not looked at; `size_bytes_max` 0: it never
    /// ends.
    pub(super) fn new(pos: u64, size_bytes_max: u64) -> Self {
        Self { pos, size_bytes_max, ends_line: false }
    }

    /// Returns the number of bytes in the file.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// Returns the same file, which was found to hold `pos` bytes.
    pub(super) fn recounted(&self, pos: u64) -> Self {
        Self::new(pos, self.size_bytes_max)
    }

    /// Adds bytes that were stored; for a short write `ends_line` is false.
    pub(super) fn stored(&mut self, len: u64, ends_line: bool) {
        self.pos = self.pos.saturating_add(len);
        self.ends_line = ends_line;
    }

    /// Returns the number of bytes that may be stored without a look at them; `None`: none.
    pub(super) fn unseen(&self) -> Option<u64> {
        if self.size_bytes_max == 0 {
            return Some(u64::MAX);
        }
        let room = self.size_bytes_max.saturating_sub(self.pos);
        room.checked_sub(WINDOW_BYTES).filter(|&unseen| unseen > 0)
    }

    /// Decides about the next of `available` bytes. `peek` is asked for at most 80 bytes, and only
    /// in the window; where it gives fewer, only those count as having arrived.
    ///
    /// # Errors
    ///
    /// Whatever `peek` reports.
    pub(super) fn step<'a, E>(
        &self,
        available: u64,
        flush: bool,
        peek: impl FnOnce(usize) -> Result<&'a [u8], E>,
    ) -> Result<CutStep, E> {
        if available == 0 {
            return Ok(CutStep::Hold);
        }
        if let Some(unseen) = self.unseen() {
            return Ok(CutStep::Write { len: available.min(unseen), ends_line: false });
        }
        let room = self.size_bytes_max.saturating_sub(self.pos);
        if room == 0 {
            return Ok(CutStep::Rotate);
        }
        let seen = peek(usize::try_from(available.min(room)).unwrap_or(0))?;
        Ok(self.step_in_window(seen, available > room, flush))
    }

    fn step_in_window(&self, seen: &[u8], more: bool, flush: bool) -> CutStep {
        let len = len_u64(seen);
        let overflows = more && self.pos.saturating_add(len) >= self.size_bytes_max;
        match seen.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => {
                CutStep::Write { len: len_u64(seen.split_at(newline).0) + 1, ends_line: true }
            }
            None if self.ends_line && overflows => CutStep::Rotate,
            None if (self.ends_line && !flush) || seen.is_empty() => CutStep::Hold,
            None => CutStep::Write { len, ends_line: false },
        }
    }
}

fn len_u64(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// A log in memory: the finished files, and the one being filled.
    struct Model {
        cut: Cut,
        files: Vec<Vec<u8>>,
        waiting: Vec<u8>,
        held_max: usize,
    }

    impl Model {
        fn new(existing: usize, size_bytes_max: u64) -> Self {
            let cut = Cut::new(existing as u64, size_bytes_max);
            Self { cut, files: vec![vec![b'.'; existing]], waiting: Vec::new(), held_max: 0 }
        }

        fn feed(&mut self, chunk: &[u8], flush: bool) {
            self.waiting.extend_from_slice(chunk);
            loop {
                let waiting = &self.waiting;
                let peek = |len: usize| Ok::<_, Infallible>(&waiting[..len]);
                match self.cut.step(waiting.len() as u64, flush, peek).unwrap() {
                    CutStep::Write { len, ends_line } => {
                        assert!(len > 0);
                        let stored = self.waiting.drain(..usize::try_from(len).unwrap());
                        self.files.last_mut().unwrap().extend(stored);
                        self.cut.stored(len, ends_line);
                    }
                    CutStep::Rotate => {
                        self.cut = Cut::new(0, self.cut.size_bytes_max);
                        self.files.push(Vec::new());
                    }
                    CutStep::Hold => break,
                }
            }
            self.held_max = self.held_max.max(self.waiting.len());
        }

        fn sizes(&self) -> Vec<usize> {
            self.files.iter().map(Vec::len).collect()
        }
    }

    /// libvirt's loop for input that arrives as one piece.
    fn libvirt(existing: usize, size_max: usize, mut input: &[u8]) -> Vec<Vec<u8>> {
        let mut files = vec![vec![b'.'; existing]];
        while !input.is_empty() {
            let pos = files.last().unwrap().len();
            let fits = size_max.saturating_sub(pos).min(input.len());
            let mut len = fits;
            if fits < input.len() {
                let window = &input[fits.saturating_sub(80)..fits];
                if let Some(newline) = window.iter().rposition(|&b| b == b'\n') {
                    len = fits - window.len() + newline + 1;
                }
            }
            files.last_mut().unwrap().extend_from_slice(&input[..len]);
            input = &input[len..];
            if !input.is_empty() {
                files.push(Vec::new());
            }
        }
        files
    }

    fn line(len: usize) -> Vec<u8> {
        let mut line = vec![b'x'; len - 1];
        line.push(b'\n');
        line
    }

    fn sizes(existing: usize, size_max: u64, input: &[u8]) -> Vec<usize> {
        let mut model = Model::new(existing, size_max);
        model.feed(input, true);
        model.sizes()
    }

    #[test]
    fn libvirts_own_numbers() {
        assert_eq!(sizes(100, 160, &[line(44), line(59)].concat()), [144, 59]);
        assert_eq!(sizes(0, 200, &[b'x'; 512]), [200, 200, 112]);
        assert_eq!(sizes(768, 1024, &[b'x'; 512]), [1024, 256]);
        assert_eq!(sizes(0, 100, &[b'x'; 450]), [100, 100, 100, 100, 50]);
        assert_eq!(sizes(0, 100, &[line(61), line(60)].concat()), [61, 60]);
        assert_eq!(sizes(150, 100, b"x"), [150, 1]);
        assert_eq!(sizes(98, 100, b"new\n"), [100, 2]);
        assert_eq!(sizes(0, 0, &[b'x'; 3000]), [3000]);
    }

    #[test]
    fn a_full_file_stays_until_one_more_byte_arrives() {
        assert_eq!(sizes(100, 100, b""), [100]);
        assert_eq!(sizes(60, 100, &[b'x'; 40]), [100]);
        assert_eq!(sizes(60, 100, &[b'x'; 41]), [100, 1]);
    }

    #[test]
    fn a_newline_counts_with_79_bytes_behind_it_and_not_with_80() {
        let text = |behind: usize| [vec![b'x'; 199 - behind], line(1), vec![b'y'; 100]].concat();
        assert_eq!(sizes(0, 200, &text(79)), [121, 179 - 79]);
        assert_eq!(sizes(0, 200, &text(80)), [200, 20]);
    }

    #[test]
    fn a_short_line_that_does_not_fit_goes_whole_into_the_next_file() {
        let mut model = Model::new(0, 100);
        for byte in [line(61), line(60)].concat() {
            model.feed(&[byte], false);
        }
        assert_eq!(model.sizes(), [61, 60]);
        assert!(model.waiting.is_empty());
    }

    #[test]
    fn a_partial_line_in_the_window_waits_until_a_flush() {
        let mut model = Model::new(20, 100);
        model.feed(b"a line\nlogin: ", false);
        assert_eq!((model.sizes(), model.waiting.len()), (vec![27], 7));
        model.feed(b"", true);
        assert_eq!(model.sizes(), [34]);
        model.feed(&[b'x'; 70], true);
        assert_eq!(model.sizes(), [100, 4]);
    }

    #[test]
    fn a_short_look_counts_as_fewer_bytes() {
        let mut cut = Cut::new(50, 100);
        let peek = |seen: &'static [u8]| move |_| Ok::<_, Infallible>(seen);
        assert_eq!(cut.step(60, false, peek(b"")), Ok(CutStep::Hold));
        assert_eq!(
            cut.step(60, false, peek(b"abc")),
            Ok(CutStep::Write { len: 3, ends_line: false })
        );
        cut.stored(3, true);
        assert_eq!(cut.step(60, false, peek(b"abc")), Ok(CutStep::Hold));
    }

    fn input() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((1usize..160, b'a'..=b'z', any::<bool>()), 0..40).prop_map(|pieces| {
            let text = |(len, letter, ends): (usize, u8, bool)| {
                let mut text = vec![letter; len];
                text.extend(ends.then_some(b'\n'));
                text
            };
            pieces.into_iter().flat_map(text).collect()
        })
    }

    fn chunks() -> impl Strategy<Value = Vec<(usize, bool)>> {
        prop::collection::vec((1usize..200, any::<bool>()), 1..40)
    }

    fn feed_chunked(model: &mut Model, mut input: &[u8], chunks: &[(usize, bool)], flushes: bool) {
        for &(len, flush) in chunks.iter().cycle() {
            let (chunk, rest) = input.split_at(len.min(input.len()));
            model.feed(chunk, flush && flushes);
            input = rest;
            if input.is_empty() {
                break;
            }
        }
        model.feed(b"", true);
    }

    proptest! {
        #[test]
        fn cuts_depend_on_the_bytes_alone(
            input in input(), chunks in chunks(), existing in 0usize..400, size_max in 1usize..400,
        ) {
            let mut model = Model::new(existing, size_max as u64);
            feed_chunked(&mut model, &input, &chunks, false);
            prop_assert_eq!(&model.files, &libvirt(existing, size_max, &input));
            prop_assert!(model.held_max <= 79);
        }

        #[test]
        fn flushes_lose_nothing_and_overfill_nothing(
            input in input(), chunks in chunks(), existing in 0usize..400, size_max in 1usize..400,
        ) {
            let mut model = Model::new(existing, size_max as u64);
            feed_chunked(&mut model, &input, &chunks, true);
            prop_assert_eq!(&model.files.concat()[existing..], &input[..]);
            prop_assert!(model.files[1..].iter().all(|file| file.len() <= size_max));
            prop_assert!(model.files[0].len() <= existing.max(size_max));
            prop_assert!(model.waiting.is_empty());
        }
    }

    #[test]
    fn bytes_are_not_looked_at_before_the_window() {
        let unseen = |pos, size_bytes_max| Cut::new(pos, size_bytes_max).unseen();
        assert_eq!(unseen(7, 0), Some(u64::MAX));
        assert_eq!(unseen(7, 1000), Some(1000 - WINDOW_BYTES - 7));
        assert_eq!(
            (unseen(919, 1000), unseen(920, 1000), unseen(2000, 1000)),
            (Some(1), None, None)
        );
        assert_eq!(unseen(0, WINDOW_BYTES), None);
    }

    #[test]
    fn a_partial_line_that_fits_exactly_is_no_overflow() {
        let mut cut = Cut::new(0, 1000);
        cut.stored(950, true);
        let step =
            |len| cut.step(len, true, |seen| Ok::<_, Infallible>(&[b'x'; 80][..seen])).unwrap();
        assert!(matches!(step(50), CutStep::Write { len: 50, ends_line: false }));
        assert!(matches!(step(51), CutStep::Rotate));
    }

    #[test]
    fn what_was_stored_counts() {
        let mut cut = Cut::new(5, 1000);
        cut.stored(7, false);
        assert_eq!((cut.pos(), cut.recounted(3).pos()), (12, 3));
        assert_eq!(cut.unseen(), Some(1000 - WINDOW_BYTES - 12));
    }
}
