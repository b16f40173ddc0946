//! What is known of our own unit, and of the fd store that it has.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::sys::pipe;
use crate::systemd::{AskError, Unit};

/// Says how many fds the store takes. systemd sets it since version 254, and any other supervisor
/// may.
pub(crate) const VARIABLE: &str = "FDSTORE";

pub(crate) const PROOFS_MAX: u32 = 5;

/// What is known of the fd store when a process begins.
#[derive(Debug, Default)]
pub struct StoreNews {
    /// What systemd has said.
    pub unit: Option<Unit>,
    /// What a predecessor knew: how many fds it takes.
    pub fds_max: Option<usize>,
}

/// What systemd was asked, and has said.
#[derive(Debug)]
pub(crate) struct Asking {
    /// What it said last.
    pub(crate) unit: Option<Unit>,
    /// What a predecessor knew, until it has.
    pub(crate) inherited: Option<usize>,
    pub(crate) is_under_way: bool,
    /// What the store had when it was asked.
    pub(crate) expected: Option<(u64, usize)>,
    pub(crate) has_timer: bool,
    /// Whether anything of ours is kept is known.
    pub(crate) proof: Proof,
    pub(crate) stop: Stop,
    pub(crate) has_warned: bool,
    /// Descriptors to ask with when there are no others: at a stop nothing else can wait for them.
    pub(crate) reserve: Option<(OwnedFd, OwnedFd)>,
}

/// Whether systemd keeps what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It did not so many times.
    Missing(u32),
    Seen,
    Refuted,
}

impl StoreNews {
    /// Asks systemd, for a moment, if there is a supervisor that has not said whether it has a store.
    #[must_use]
    pub fn ask() -> Self {
        let is_asked = std::env::var_os("NOTIFY_SOCKET").is_some() && told_size().is_none();
        let answer = if is_asked { Unit::ask(PATIENCE) } else { Ok(None) };
        let unit = answer.unwrap_or_else(|error| {
            complain(&error);
            None
        });
        Self { unit, fds_max: None }
    }
}

impl Asking {
    pub(crate) fn new(StoreNews { unit, fds_max }: StoreNews) -> Self {
        Self {
            unit,
            inherited: fds_max,
            is_under_way: false,
            expected: None,
            has_timer: false,
            proof: Proof::Missing(0),
            stop: Stop::None,
            has_warned: false,
            reserve: pipe::pipe().ok(),
        }
    }

    /// How many fds a store takes, by all that is known.
    pub(crate) fn size(&self) -> usize {
        let said = self.unit.as_ref().map(Unit::takes).or(self.inherited);
        match (told_size(), said) {
            _ if self.proof == Proof::Refuted => 0,
            (Some(told), Some(said)) => told.min(said),
            (told, said) => told.or(said).unwrap_or(0),
        }
    }
}

/// What the environment says of the store.
pub(crate) fn told_size() -> Option<usize> {
    std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok())
}

pub(crate) fn complain(error: &AskError) {
    tracing::warn!(target: "util.systemd", "systemd does not say what our unit is: {error}");
}

/// How long systemd may take to answer. It takes 1 to 2 ms, but seconds while it reads all units
/// anew.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    None,
    Asked,
    /// Whether the fd store outlives it, and whether it may be a restart.
    Known {
        is_kept: bool,
        is_restart: bool,
    },
}
