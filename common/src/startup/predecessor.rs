//! State left by a predecessor, adopted item by item. Nothing here fails the start, as guests
//! depend on this process already.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;

use super::origin::Origin;
use super::pid_file::{self, PidFile, is_pid_file};
use super::sockets::Sockets;
use crate::cli::Paths;
use crate::config::Contents;
use crate::fd_store::recovery::{Returned, from_fd_store, keys_of};
use crate::handover::document::{Document, PrivateDaemon, Server};
use crate::handover::text::unhex;
use crate::handover::{self, Found, InheritedFds, VARIABLE};
use crate::server::{self, Listener};
use crate::sys::{fd, process, socket};
use crate::systemd::StoredFd;

/// State found at the start.
#[derive(Debug, Default)]
pub(super) struct Predecessor {
    found: Option<Found>,
    /// A listener was inherited.
    has_listeners: bool,
    /// State that another process has left in the fd store.
    pub(super) stored: Option<Stored>,
    pub(super) inherited: InheritedFds,
}

/// Content of an fd store.
#[derive(Debug)]
pub(super) struct Stored {
    /// Names, one for each fd.
    pub(super) names: Vec<String>,
    /// There is a journal that describes the fds.
    pub(super) is_known: bool,
    /// Descriptions of items that the journal has and the store lacks.
    pub(super) missing: Vec<String>,
    /// Memfds without which nothing else in the store has a meaning, by name.
    essentials: Vec<(String, RawFd)>,
}

/// State to be adopted.
#[derive(Debug)]
pub(super) struct RestoredState {
    /// The document, without its servers.
    pub(super) document: Document<'static>,
    pub(super) main: Server,
    pub(super) admin: Server,
    pub(super) private: PrivateDaemon,
    pub(super) origin: Origin,
}

impl Predecessor {
    /// Finds a predecessor's state. To be called before anything is opened.
    pub(super) fn find(paths: &Paths, inherited: InheritedFds) -> Self {
        let variable = std::env::var_os(VARIABLE);
        forget_variable();
        Self::find_by(variable.as_deref(), paths, inherited)
    }

    fn find_by(variable: Option<&OsStr>, paths: &Paths, mut inherited: InheritedFds) -> Self {
        let found = handover::find(&paths.state_file, variable, &mut inherited);
        let is_at = |path| inherited.has(|fd| socket::is_listener_at(fd, path));
        let has_listeners = is_at(&paths.socket) || is_at(&paths.admin_socket);
        // A predecessor has left something unreadable.
        let found = found.or_else(|| variable.is_some().then(Found::unreadable));
        Self { found, has_listeners, stored: None, inherited }
    }

    /// Takes a document as that of a predecessor.
    #[cfg(feature = "fuzzing")]
    pub(super) fn of(document: Option<Document<'static>>, inherited: InheritedFds) -> Self {
        let found = document.map(|document| Found { document, is_ours: true, broken: None });
        Self { found, inherited, ..Self::default() }
    }

    /// Recovers another process's state from the fd store, unless a predecessor of this process was
    /// found.
    pub(super) fn or_stored(mut self, name: &str, stored: Vec<StoredFd>) -> Self {
        if self.is_there() {
            return self;
        }
        let stored = stored.into_iter().map(|StoredFd { name, fd }| (name, fd)).collect();
        let returned = from_fd_store(stored, name, &mut self.inherited);
        if let Some(Returned { mut document, names, missing }) = returned {
            let private = document.as_mut().and_then(|document| document.private.as_mut());
            let essentials = private.and_then(|private| private.essentials.take());
            let essentials = essentials.unwrap_or_default();
            let is_known = document.is_some();
            self.stored = Some(Stored { names, is_known, missing, essentials });
            // Nothing depends on an empty document, and the start may fail as usual.
            let document = match document {
                Some(document) => Some(document).filter(|found| is_something(found, name)),
                None => Some(Document::default()),
            };
            self.found = document.map(|document| Found { document, is_ours: true, broken: None });
        }
        self
    }

    /// Returns whether this process takes over from a predecessor: its document says so, or is
    /// unreadable or another process's while a listener was inherited.
    pub(super) fn is_there(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.is_ours || self.has_listeners)
    }

    /// Returns what is wrong with the document, if anything.
    pub(super) fn complaint(&self) -> Option<String> {
        let found = self.found.as_ref().filter(|found| !found.is_ours)?;
        Some(match &found.broken {
            Some(error) => format!("cannot be read: {error}"),
            None => format!("is of process {}", found.document.magic.as_deref().unwrap_or("?")),
        })
    }

    /// Takes the configuration that the predecessor has read.
    pub(super) fn configuration(&mut self) -> Option<Contents> {
        let private = self.found.as_ref()?.document.private.as_ref()?;
        let mut read = |number, hex: &Option<String>| {
            let read = self.inherited.take_bytes(number).ok();
            read.or_else(|| hex.as_deref().and_then(unhex))
        };
        let conf = read(private.configuration, &private.configuration_hex)?;
        // An earlier version has none.
        let toml = read(private.toml, &private.toml_hex).unwrap_or_default();
        Some(Contents { conf, toml })
    }

    /// Splits the document. One of another process counts as empty.
    pub(super) fn restored_state(&mut self, name: &str) -> Option<RestoredState> {
        if !self.is_there() {
            return None;
        }
        let found = self.found.take().filter(|found| found.is_ours);
        let is_readable = found.is_some();
        let mut document = found.map(|found| found.document).unwrap_or_default();
        let servers = document.daemon.take().map(|daemon| daemon.into_servers(name));
        let (main, admin) = servers.unwrap_or_default();
        let main = main.or_else(|| document.server.take()).unwrap_or_default();
        let private = document.private.take().unwrap_or_default();
        let origin = match &self.stored {
            Some(stored) => Origin::FdStore { missing: stored.missing.len() },
            None if is_readable => Origin::of_document(&private),
            None => Origin::Unreadable,
        };
        Some(RestoredState { document, main, admin: admin.unwrap_or_default(), private, origin })
    }

    /// Adopts the pid file, with its lock if the predecessor could hand that over.
    pub(super) fn pid_file(&mut self, path: &Path, private: &PrivateDaemon) -> Option<PidFile> {
        let is_it = |fd: BorrowedFd<'_>| pid_file::is_at(fd, path).unwrap_or(false);
        let inherited = self.inherited.take_as(private.pid_file, Errno::EINVAL, is_it).ok();
        let inherited = inherited.and_then(|fd| PidFile::inherited(path, File::from(fd)));
        inherited.or_else(|| {
            PidFile::acquire(path)
                .inspect_err(
                    |error| tracing::error!(target: "util.pidfile", "{error}; going on without it"),
                )
                .ok()
        })
    }

    /// Returns the listeners of both servers: the documented ones, else any inherited ones at their
    /// paths.
    pub(super) fn sockets(&mut self, restored: &RestoredState, paths: &Paths) -> Sockets {
        let mut sockets = Sockets {
            main: server::adopt_listeners(&restored.main, &mut self.inherited),
            admin: server::adopt_listeners(&restored.admin, &mut self.inherited),
        };
        for (listeners, path) in
            [(&mut sockets.main, &paths.socket), (&mut sockets.admin, &paths.admin_socket)]
        {
            if listeners.is_empty() {
                listeners.extend(self.listener_at(path));
            }
        }
        sockets
    }

    /// Returns the memfds without which nothing else in the fd store has a meaning, by name: a
    /// predecessor's, or recovered ones.
    pub(super) fn essentials(&mut self, passed: Vec<(String, RawFd)>) -> Vec<(String, OwnedFd)> {
        let stored = self.stored.as_mut().map(|stored| std::mem::take(&mut stored.essentials));
        let all = passed.into_iter().chain(stored.unwrap_or_default());
        let taken = all.filter_map(|(name, fd)| Some((name, self.inherited.take(Some(fd)).ok()?)));
        taken.collect()
    }

    /// Returns the names in the fd store, and the recovered fds that are of no use. Those may be
    /// closed, and are removed from the store, see `Core::fill_store`. Without a journal the use of
    /// fds is unknown, and none are returned.
    pub(super) fn leave_store(&mut self) -> (Vec<String>, Vec<OwnedFd>) {
        let Some(Stored { names, is_known, missing, .. }) = self.stored.take() else {
            return (Vec::new(), Vec::new());
        };
        for what in missing {
            tracing::error!(
                target: "util.systemd", "Unable to restore, as it is not in the fd store: {what}"
            );
        }
        let useless = if is_known { self.inherited.take_rest() } else { Vec::new() };
        (names, useless)
    }

    /// Returns the remaining fds that must stay open: files and devices that may have a lock, and
    /// those which `must_stay` for another fd of their file. Closes all others.
    pub(super) fn unclaimed_fds(
        &mut self,
        private: &PrivateDaemon,
        must_stay: impl Fn(BorrowedFd<'_>) -> bool,
    ) -> Vec<OwnedFd> {
        let known = private.parked.iter().flatten();
        let mut unclaimed: Vec<_> =
            known.filter_map(|&number| self.inherited.take(Some(number)).ok()).collect();
        let rest = self.inherited.take_rest().into_iter();
        let before = unclaimed.len();
        let is_locked = |fd: &OwnedFd| {
            fd::may_have_lock(fd)
                || fd::device_and_inode(fd).is_ok_and(|(dev, inode)| is_pid_file(dev, inode))
        };
        unclaimed.extend(rest.filter(|fd| is_locked(fd) || must_stay(fd.as_fd())));
        if unclaimed.len() > before {
            tracing::warn!(
                target: "daemon",
                "{} inherited files of unknown use stay open, as they may have locks",
                unclaimed.len() - before
            );
        }
        unclaimed
    }

    fn listener_at(&mut self, path: &Path) -> Option<Listener> {
        let fd = self.inherited.take_if(|fd| socket::is_listener_at(fd, path))?;
        let listener = socket::listener_from(fd).ok()?;
        tracing::warn!(
            target: "rpc.netserver",
            "No listener was handed over for {}; adopting the inherited socket", path.display()
        );
        Some(Listener::inherited(listener))
    }
}

#[expect(unsafe_code, reason = "the environment is changed")]
fn forget_variable() {
    // SAFETY: the process has just begun, and no other thread was started.
    unsafe { process::remove_env(VARIABLE) }
}

/// Returns whether anything depends on a recovered document.
fn is_something(document: &Document<'_>, name: &str) -> bool {
    !keys_of(document, name).is_empty() || document.has_endings() || document.has_settings()
}

#[cfg(test)]
mod tests;
