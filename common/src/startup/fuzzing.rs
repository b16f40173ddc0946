//! Adoption of a predecessor's state in a process that goes on as it was, for fuzzing.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::assembly;
use super::predecessor::Predecessor;
use super::service::Service;
use crate::config::Contents;
use crate::handover::document::Document;
use crate::handover::{FdSet, InheritedFds};
use crate::logging::{Error, Logger, Settings};
use crate::server::{Core, Limits, OPEN_PERIOD, Parts, ProcessInfo, StoreNews};
use crate::sys::signal::Signals;
use crate::systemd::{Notify, StoredFd};

/// Limits of a server whose document has none.
const LIMITS: Limits = Limits { clients_max: 1024, unauthenticated_max: 1024 };

/// A daemon that has adopted a state and does not serve.
#[derive(Debug)]
pub struct Adopted<S: Service> {
    core: Core<S::Outcome>,
    daemon: S,
}

impl<S: Service> Adopted<S> {
    /// Adopts what a document describes, and all other inherited fds as a start does.
    ///
    /// # Errors
    /// As `epoll_create1(2)` and `pipe2(2)`.
    pub fn from_document(
        document: Document<'static>,
        inherited: InheritedFds,
        settings: S::Settings,
    ) -> io::Result<Self> {
        Self::new(Predecessor::of(Some(document), inherited), settings)
    }

    /// Adopts what an fd store has returned. Without anything to adopt the daemon is empty.
    ///
    /// # Errors
    /// As [`Self::from_document`].
    pub fn from_store(stored: Vec<(String, OwnedFd)>, settings: S::Settings) -> io::Result<Self> {
        let stored = stored.into_iter().map(|(name, fd)| StoredFd { name, fd }).collect();
        let predecessor = Predecessor::of(None, InheritedFds::default());
        Self::new(predecessor.or_stored(S::NAME, stored), settings)
    }

    fn new(mut predecessor: Predecessor, settings: S::Settings) -> io::Result<Self> {
        let restored = predecessor.restored_state(S::NAME);
        let mut core = Core::new(parts::<S>()?)?;
        let mut daemon = S::create(settings, &mut core)?;
        if let Some(restored) = restored {
            assembly::adopt(&mut core, &mut daemon, restored, &mut predecessor);
        } else {
            core.adopt_essentials(predecessor.essentials(Vec::new()));
            assembly::leave_store(&mut core, &mut daemon, &mut predecessor);
        }
        Ok(Self { core, daemon })
    }

    /// Runs jobs and handles events, see [`Core::advance`].
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn advance(&mut self, rounds_max: usize) -> io::Result<()> {
        self.core.advance(&mut self.daemon, rounds_max)
    }

    /// Returns the document for a successor of ours.
    ///
    /// # Errors
    /// As [`Core::document_text`].
    pub fn document_text(&self, fd_set: &FdSet) -> io::Result<String> {
        self.core.document_text(&self.daemon, fd_set)
    }
}

/// Installs a log that formats every message and keeps none.
///
/// # Errors
/// As [`Logger::install_with`].
pub fn install_log() -> Result<(), Error> {
    let settings = Settings { outputs: "1:file:/dev/null".to_owned(), ..Settings::default() };
    Logger::install_with(settings, OPEN_PERIOD).map(drop)
}

/// Returns a process without sockets, signals and supervisor.
fn parts<S: Service>() -> io::Result<Parts> {
    Ok(Parts {
        name: S::NAME,
        programs: &[S::PROGRAM],
        main_listeners: Vec::new(),
        admin_listeners: Vec::new(),
        main_limits: LIMITS,
        admin_limits: LIMITS,
        idle_timeout: None,
        signals: Signals::unhandled()?,
        notify: Notify::new(None),
        store: StoreNews { unit: None, fds_max: None },
        ping_period: None,
        logger: Logger::new(Settings::default()).map_err(io::Error::other)?,
        process_info: ProcessInfo {
            arguments: Vec::new(),
            executed: None,
            state_file: "/nonexistent".into(),
            generation: 0,
            configuration: Contents::default(),
            check_configuration: Arc::new(|| Ok(())),
            pid_file: None,
            unclaimed_fds: Vec::new(),
        },
    })
}
