//! Opening of outputs, which may block for ever on a hanging disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::output::{Destination, Output, Outputs};
use super::sink::{Service, Sink};
use super::stream::{self, LogFile, Stream};
use super::{Error, Services};
use crate::sys::signal;

/// Stack size of a thread that opens files, in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// Outputs to be opened.
#[derive(Debug, Clone)]
pub struct Opening {
    pub(super) outputs: Outputs,
    /// The default output, whose directory is created.
    pub(super) is_default: bool,
    pub(super) services: Services,
}

/// Opened outputs.
#[derive(Debug)]
pub struct Opened(pub(super) Vec<Sink>);

impl Opening {
    /// Opens the outputs, however long it takes. The services may be absent; a file must exist or
    /// be creatable.
    ///
    /// # Errors
    /// [`Error::Open`] of the first output that cannot be opened.
    pub fn open(self) -> Result<Opened, Error> {
        let is_default = self.is_default;
        self.open_by(|path| stream::open(path, is_default).map(Some))
    }

    /// Opens the outputs within `period`. An output that takes longer is opened on its first write.
    ///
    /// # Errors
    /// [`Error::Open`] of the first output known to be impossible to open.
    pub fn open_within(self, period: Duration) -> Result<Opened, Error> {
        let deadline = Instant::now() + period;
        let mut beside = Beside::open(self.files(), self.is_default);
        let opened = self.open_by(|_| {
            let left = deadline.saturating_duration_since(Instant::now());
            match beside.as_ref().map(|beside| beside.opened.recv_timeout(left)) {
                Some(Ok(result)) => result.map(Some),
                Some(Err(_)) | None => {
                    // A late result would be taken for the next file's.
                    beside = None;
                    Ok(None)
                }
            }
        });
        if opened.is_ok()
            && let Some(Beside { thread, .. }) = beside
        {
            // The process stays single-threaded for a later fork. The thread cannot panic.
            thread.join().ok();
        }
        opened
    }

    /// Opens the files one after the other.
    fn open_by(
        self,
        mut file: impl FnMut(&Path) -> Result<Option<File>, Error>,
    ) -> Result<Opened, Error> {
        let Self { outputs, is_default, services } = self;
        let sinks = outputs.iter().cloned().map(|output| match output.destination.clone() {
            Destination::Stderr => Ok(Sink::of_stream(output, Stream::Stderr)),
            Destination::File(path) => {
                let file = file(&path)?;
                let log = LogFile { path, makes_directory: is_default, file };
                Ok(Sink::of_stream(output, Stream::File(log)))
            }
            Destination::Syslog(ident) => {
                let address = services.syslog.clone();
                of_service(output, &services.syslog, Service::Syslog { address, ident })
            }
            Destination::Journald => {
                let address = services.journal.clone();
                of_service(output, &services.journal, Service::Journal { address })
            }
        });
        Ok(Opened(sinks.collect::<Result<_, _>>()?))
    }

    fn files(&self) -> Vec<PathBuf> {
        let path = |output: &Output| match &output.destination {
            Destination::File(path) => Some(path.clone()),
            Destination::Stderr | Destination::Syslog(_) | Destination::Journald => None,
        };
        self.outputs.iter().filter_map(path).collect()
    }
}

/// A thread that opens files one after the other.
struct Beside {
    opened: mpsc::Receiver<Result<File, Error>>,
    thread: JoinHandle<()>,
}

impl Beside {
    /// Starts the thread; `None` without files, or if no thread can be started.
    fn open(files: Vec<PathBuf>, makes_directory: bool) -> Option<Self> {
        if files.is_empty() {
            return None;
        }
        let (sender, opened) = mpsc::channel();
        let thread = thread::Builder::new().name("open".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || {
            // Signals belong to the thread with their handlers. The signal set is fixed, so this
            // cannot fail.
            signal::block().ok();
            let mut files = files.into_iter().map(|path| stream::open(&path, makes_directory));
            while files.next().is_some_and(|file| sender.send(file).is_ok()) {}
        });
        Some(Self { opened, thread: thread.ok()? })
    }
}

fn of_service(output: Output, address: &Path, service: Service) -> Result<Sink, Error> {
    let failed = |source| Error::Open { path: address.to_owned(), source };
    Sink::of_service(output, service).map_err(failed)
}
