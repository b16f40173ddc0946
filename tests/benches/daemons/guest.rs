//! A daemon with logs, and guests that write into them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::harness::{Daemon, Program};
use tests::wire::LogClient;

use crate::content::Content;
use crate::table::Contender;
use crate::usage;

/// A scratch directory, in memory where that can be had: disks are not what is measured.
pub(crate) fn scratch() -> TempDir {
    let builder = || tempfile::Builder::new().prefix("vb").to_owned();
    builder().tempdir_in("/dev/shm").or_else(|_| builder().tempdir()).expect("a scratch directory")
}

/// A log daemon with its logs' directory.
#[derive(Debug)]
pub(crate) struct LogDaemon {
    pub(crate) daemon: Daemon,
    pub(crate) client: LogClient,
    directory: TempDir,
}

/// A log and the guest's end of its pipe.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) path: PathBuf,
    pub(crate) pipe: File,
}

/// How a flood went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flood {
    pub(crate) writes: usize,
    pub(crate) bytes: usize,
    pub(crate) guest_cpu: Duration,
}

impl LogDaemon {
    /// A fresh one with default settings.
    pub(crate) fn start(contender: Contender) -> Self {
        Self::start_with(contender, "")
    }

    /// A fresh one with this configuration.
    pub(crate) fn start_with(contender: Contender, config: &str) -> Self {
        let daemon = contender.subject(Program::Virtlogd).start_with(config);
        let client = daemon.log_client();
        Self { daemon, client, directory: scratch() }
    }

    /// Where a log of this name is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Opens a log.
    pub(crate) fn open(&mut self, name: &str) -> Guest {
        let path = self.path(name);
        let pipe = self.client.open(&path).expect("opening a log").pipe;
        Guest { path, pipe }
    }

    /// Opens so many logs.
    pub(crate) fn open_many(&mut self, prefix: &str, count: usize) -> Vec<Guest> {
        (0..count).map(|number| self.open(&format!("{prefix}{number}"))).collect()
    }

    /// Returns when all that was written is in the file.
    pub(crate) fn settle(&mut self, path: &Path) {
        self.client.position(path).expect("the position of an open log");
    }
}

/// Writes until `enough` says so of the bytes written.
pub(crate) fn flood(
    mut pipe: &File,
    content: &mut Content,
    mut enough: impl FnMut(usize) -> bool,
) -> Flood {
    let (mut writes, mut bytes, cpu) = (0, 0, usage::thread_cpu());
    while !enough(bytes) {
        let write = content.write(writes);
        pipe.write_all(write).expect("the guest gets no error");
        bytes += write.len();
        writes += 1;
    }
    Flood { writes, bytes, guest_cpu: usage::thread_cpu() - cpu }
}

/// The size of a log's newest file.
pub(crate) fn stored_bytes(path: &Path) -> usize {
    fs::metadata(path).map_or(0, |metadata| metadata.size().try_into().expect("it fits memory"))
}

/// For [`flood`]: enough after so much time.
pub(crate) fn for_time(span: Duration) -> impl FnMut(usize) -> bool {
    let end = Instant::now() + span;
    move |_| Instant::now() >= end
}
