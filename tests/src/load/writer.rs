//! Guests that number the lines they write, and the check that each line arrived.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::stat::fstat;

use crate::harness::{backup, eventually, eventually_within};

/// More backups than a log has: what is missing among them was rotated away.
const BACKUPS_MAX: u32 = 32;

/// How long a log may stay as it is before it is judged although bytes are missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a guest writes. All make less than 1.5 MB/s, so that nothing is rotated away meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// One line per write, some of them without a pause.
    Lines,
    /// More than a pipe holds in one write, then a pause.
    Bursts,
    /// A line per millisecond.
    Steady,
    /// A quarter of that, for minutes.
    Slow,
}

/// A guest that writes numbered lines until it is told to end.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    pipe_inode: u64,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Writer {
    /// Starts writing to `pipe`, whose reader keeps the log at `path`.
    pub fn start(path: &Path, pipe: File, pace: Pace) -> Self {
        let pipe_inode = fstat(&pipe).expect("the pipe's inode").st_ino;
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        let thread = std::thread::spawn(move || write(pipe, pace, &told));
        Self { path: path.to_path_buf(), pipe_inode, ending, thread }
    }

    /// The pipe's number in its file system, the same at both ends.
    pub fn pipe_inode(&self) -> u64 {
        self.pipe_inode
    }

    /// Ends the guest, and checks that the log has each of its lines once and in order.
    #[track_caller]
    pub fn finish(self) {
        self.ending.store(true, Ordering::Relaxed);
        eventually("the guest need not wait", || self.thread.is_finished());
        let written = self.thread.join().expect("the guest's thread");
        let lines = written.unwrap_or_else(|error| {
            panic!("{}: the guest could not write: {error}", self.path.display());
        });
        expect_lines(&self.path, lines);
    }
}

/// Waits until the log at `path`, older parts included, is the lines 1 to `last` and nothing else.
#[track_caller]
pub fn expect_lines(path: &Path, last: u64) {
    let wanted = (1..=last).map(line).fold(Vec::new(), |mut all, line| {
        all.extend(line);
        all
    });
    eventually_within(PATIENCE, || size(path) >= wanted.len() as u64);
    let found = content(path);
    if found == wanted {
        return;
    }
    let same = found.iter().zip(&wanted).take_while(|(found, wanted)| found == wanted).count();
    let number = wanted[..same].iter().filter(|&&byte| byte == b'\n').count() + 1;
    panic!(
        "{}: {} bytes, not {}; they differ at byte {same}, in line {number}: {:?} not {:?}",
        path.display(),
        found.len(),
        wanted.len(),
        excerpt(&found, same),
        excerpt(&wanted, same),
    );
}

fn write(mut pipe: File, pace: Pace, ending: &AtomicBool) -> io::Result<u64> {
    const LINES_PER_BURST: u64 = 1_500;
    const LINES_PER_PAUSE: u64 = 16;
    let mut number = 0;
    while !ending.load(Ordering::Relaxed) {
        let (count, pause_ms) = match pace {
            Pace::Lines => (LINES_PER_PAUSE, 2),
            Pace::Bursts => (LINES_PER_BURST, 100),
            Pace::Steady => (1, 1),
            Pace::Slow => (1, 4),
        };
        let lines = (number + 1..=number + count).map(line);
        match pace {
            Pace::Lines | Pace::Steady | Pace::Slow => {
                lines.into_iter().try_for_each(|line| pipe.write_all(&line))?;
            }
            Pace::Bursts => pipe.write_all(&lines.flatten().collect::<Vec<_>>())?,
        }
        number += count;
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
    Ok(number)
}

/// A line with its newline, of 12 to 107 bytes.
fn line(number: u64) -> Vec<u8> {
    let filler = usize::try_from(number * 31 % 96).expect("a small number");
    format!("{number:010} {}\n", "x".repeat(filler)).into_bytes()
}

/// The log's files, oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let backups = (0..BACKUPS_MAX).try_fold(Vec::new(), |mut found, index| {
        let file = backup(path, index);
        if file.exists() {
            found.push(file);
            return ControlFlow::Continue(found);
        }
        ControlFlow::Break(found)
    });
    let (ControlFlow::Break(found) | ControlFlow::Continue(found)) = backups;
    found.into_iter().rev().chain([path.to_path_buf()]).collect()
}

fn size(path: &Path) -> u64 {
    files(path).iter().filter_map(|file| fs::metadata(file).ok()).map(|found| found.len()).sum()
}

fn content(path: &Path) -> Vec<u8> {
    files(path).iter().flat_map(|file| fs::read(file).unwrap_or_default()).collect()
}

fn excerpt(bytes: &[u8], at: usize) -> String {
    let around = &bytes[at.saturating_sub(40)..bytes.len().min(at + 40)];
    String::from_utf8_lossy(around).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        numbers.into_iter().flat_map(line).collect()
    }

    #[test]
    fn a_line_may_be_split_between_two_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let all = lines(1..=9);
        fs::write(backup(&path, 0), &all[..100]).unwrap();
        fs::write(&path, &all[100..]).unwrap();
        expect_lines(&path, 9);
    }

    #[test]
    #[should_panic(expected = "in line 3")]
    fn a_missing_line_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        // As long as what is expected, so that nothing is waited for.
        fs::write(&path, [lines([1, 2]), lines(4..=9)].concat()).unwrap();
        expect_lines(&path, 8);
    }
}
