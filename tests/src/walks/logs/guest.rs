//! A guest that writes to its log: a process of its own, which does as it is told and says how far
//! it is in a file, so that this is known even of one that was killed or that waits.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::stream::Stream;
use crate::harness::now_us;

/// A write that takes longer is told of.
const SLOW: Duration = Duration::from_millis(200);

/// How a guest writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// So much, or a line more or less.
    pub(super) bytes: usize,
    /// At most so much at a time, in whole lines.
    pub(super) piece: usize,
    /// So long between two pieces.
    pub(super) pause: Duration,
}

/// How far a guest is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes that it has written for certain.
    pub(super) written: usize,
    /// What it has at the most, with the write that is under way.
    pub(super) begun: usize,
    /// Orders that it has carried out.
    pub(super) orders: usize,
    /// What it was told when it could not write; 0 is nothing.
    pub(super) errno: i32,
    /// Its slowest write, by the monotonic clock: from, to. Both 0 when none was slow.
    pub(super) slowest_us: (u64, u64),
}

const WORDS: usize = 6;

impl Progress {
    fn store(&self, file: &File) {
        let words = [
            self.written as u64,
            self.begun as u64,
            self.orders as u64,
            u64::from(self.errno.unsigned_abs()),
            self.slowest_us.0,
            self.slowest_us.1,
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        file.write_all_at(&bytes, 0).expect("saying how far it is");
    }

    fn load(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        let word = |index: usize| {
            let word = bytes.get(index * 8..index * 8 + 8).unwrap_or(&[0; 8]);
            u64::from_ne_bytes(word.try_into().expect("eight bytes"))
        };
        let size = |index| usize::try_from(word(index)).expect("a size");
        Self {
            written: size(0),
            begun: size(1),
            orders: size(2),
            errno: i32::try_from(word(3)).expect("a small number"),
            slowest_us: (word(4), word(WORDS - 1)),
        }
    }
}

/// Its process, as the walk sees it.
#[derive(Debug)]
pub(super) struct Guest {
    process: Child,
    file: PathBuf,
    orders: usize,
    /// It may be in the midst of a write that is no atomic one.
    writes_large: bool,
}

impl Guest {
    /// Starts one; the pipe is then open in no other process.
    pub(super) fn start(number: u64, file: &Path, pipe: File) -> Self {
        let process = Command::new(std::env::current_exe().expect("the path of this executable"))
            .args(["log-guest", &number.to_string()])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(pipe)
            .spawn()
            .expect("starting a guest");
        Self { process, file: file.to_path_buf(), orders: 0, writes_large: false }
    }

    /// Tells it to write.
    pub(super) fn order(&mut self, order: Order) {
        let Order { bytes, piece, pause } = order;
        let stdin = self.process.stdin.as_mut().expect("its input is a pipe");
        // It may have ended, which is noticed by its progress.
        writeln!(stdin, "{bytes} {piece} {}", pause.as_micros()).ok();
        self.orders += 1;
        self.writes_large = piece > ATOMIC_BYTES;
    }

    pub(super) fn progress(&self) -> Progress {
        Progress::load(&self.file)
    }

    /// Whether it has done all that it was told to.
    pub(super) fn is_idle(&self) -> bool {
        let progress = self.progress();
        progress.orders == self.orders || progress.errno != 0
    }

    /// Whether it is known what it has written, to one atomic write, should it be killed now.
    pub(super) fn may_be_killed(&self) -> bool {
        !self.writes_large || self.is_idle()
    }

    /// Kills it; gives how far it was.
    pub(super) fn kill(&mut self) -> Progress {
        self.process.kill().and_then(|()| self.process.wait()).expect("ending a guest");
        self.progress()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A write of no more bytes is done as a whole or not at all (`PIPE_BUF`).
pub(super) const ATOMIC_BYTES: usize = 4_096;

/// The life of a guest: its number, and the file for its progress.
///
/// # Panics
/// When it is told what it does not understand.
pub(crate) fn live(number: &str, file: &Path) {
    let mut stream = Stream::of(number.parse().expect("a guest's number"));
    let file = File::create(file).expect("a file for the progress");
    let mut progress = Progress::default();
    progress.store(&file);
    let mut pipe = std::io::stdout().lock();
    for order in std::io::stdin().lines() {
        let order = order.expect("reading an order");
        let numbers: Vec<usize> =
            order.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [bytes, piece, pause_us] = numbers[..] else { panic!("what is {order}?") };
        let end = progress.written + bytes;
        while progress.written < end {
            let lines = stream.lines(progress.written, piece.min(end - progress.written));
            progress.begun = progress.written + lines.len();
            progress.store(&file);
            let from = now_us();
            // Not through the buffer of standard output.
            let written = pipe_write(&mut pipe, lines);
            let to = now_us();
            if to - from > progress.slowest_us.1 - progress.slowest_us.0
                && Duration::from_micros(to - from) > SLOW
            {
                progress.slowest_us = (from, to);
            }
            if let Err(error) = written {
                progress.errno = error.raw_os_error().unwrap_or(-1);
                progress.store(&file);
                return;
            }
            progress.written = progress.begun;
            progress.store(&file);
            if pause_us > 0 {
                std::thread::sleep(Duration::from_micros(pause_us as u64));
            }
        }
        progress.orders += 1;
        progress.store(&file);
    }
}

fn pipe_write(pipe: &mut std::io::StdoutLock<'_>, bytes: &[u8]) -> std::io::Result<()> {
    pipe.write_all(bytes)?;
    pipe.flush()
}
