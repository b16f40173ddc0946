//! Knowledge of our unit and its fd store.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::sys::pipe;
use crate::systemd::{AskError, Unit};

/// Environment variable with the store's capacity in fds, set by systemd since 254 and possibly by
/// other supervisors.
pub(crate) const VARIABLE: &str = "FDSTORE";

pub(crate) const PROOFS_MAX: u32 = 5;

/// Knowledge of the fd store when a process starts.
#[derive(Debug, Default)]
pub struct StoreNews {
    /// systemd's answer.
    pub unit: Option<Unit>,
    /// Capacity in fds, as told by a predecessor.
    pub fds_max: Option<usize>,
}

/// State of the questions to systemd.
#[derive(Debug)]
pub(crate) struct Asking {
    /// The last answer.
    pub(crate) unit: Option<Unit>,
    /// Capacity told by a predecessor, until systemd has answered.
    pub(crate) inherited: Option<usize>,
    pub(crate) is_under_way: bool,
    /// Content of the store when systemd was asked.
    pub(crate) expected: Option<(u64, usize)>,
    pub(crate) has_timer: bool,
    /// State of the proof that systemd stores what it is sent.
    pub(crate) proof: Proof,
    pub(crate) stop: Stop,
    pub(crate) has_warned: bool,
    /// Descriptors reserved for a question: at a stop there may be no others.
    pub(crate) reserve: Option<(OwnedFd, OwnedFd)>,
}

/// Proof that systemd stores what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It did not, this many times in a row.
    Missing(u32),
    Seen,
    Refuted,
}

impl StoreNews {
    /// Asks systemd, within a short time, if there is a supervisor that has not announced a store.
    #[must_use]
    pub fn ask() -> Self {
        let supervisor = std::env::var_os("NOTIFY_SOCKET");
        let Some(address) = supervisor.filter(|_| announced_size().is_none()) else {
            return Self::default();
        };
        let unit = Unit::ask(TIMEOUT).unwrap_or_else(|error| {
            complain(&error);
            None
        });
        Self { unit: unit.filter(|unit| unit.listens_at(&address)), fds_max: None }
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

    /// Returns the store's capacity in fds, by all that is known.
    pub(crate) fn size(&self) -> usize {
        let known = self.unit.as_ref().map(Unit::takes).or(self.inherited);
        match (announced_size(), known) {
            _ if self.proof == Proof::Refuted => 0,
            (Some(announced), Some(known)) => announced.min(known),
            (announced, known) => announced.or(known).unwrap_or(0),
        }
    }
}

/// Returns the capacity that the environment gives.
pub(crate) fn announced_size() -> Option<usize> {
    std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok())
}

pub(crate) fn complain(error: &AskError) {
    tracing::warn!(target: "util.systemd", "No answer from systemd about our unit: {error}");
}

/// Time for systemd to answer. It takes 1 to 2 ms, but seconds while it reloads all units.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);

/// Knowledge of a stop's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    None,
    Asked,
    /// The fd store outlives the stop; the stop may be a restart.
    Known {
        is_preserved: bool,
        is_restart: bool,
    },
}
