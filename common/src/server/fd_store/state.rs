//! What is kept in the supervisor's fd store, for whoever comes after us.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fd_store::answer_gate::AnswerGate;
use crate::fd_store::journal::Journal;
use crate::fd_store::keys::Keys;
use crate::fd_store::proof::Proof;
use crate::fd_store::slots::SlotFile;
use crate::server::caller::ClientId;

/// What is kept, for whoever comes after us.
#[derive(Debug, Default)]
pub(crate) struct StoreState {
    /// Fds that the store takes, as far as that is known; 0: there is none.
    pub(crate) fds_max: usize,
    /// Fds that it takes by what is said of it.
    pub(crate) said_max: usize,
    pub(crate) keys: Keys,
    pub(crate) journal: Option<Journal>,
    pub(crate) journal_failed_at: Option<Instant>,
    /// The journal is worth renewing.
    pub(crate) is_stale: bool,
    /// A change could not be noted.
    pub(crate) is_incomplete: bool,
    /// By name; see [`super::essentials`].
    pub(crate) essentials: Vec<(String, OwnedFd)>,
    /// A predecessor's, not in use yet.
    pub(crate) adopted: Vec<(String, OwnedFd)>,
    /// What clients are owed.
    pub(crate) calls: Option<Arc<SlotFile>>,
    pub(crate) proof: Proof,
    /// What has been named since it was begun to go through everything.
    pub(crate) claimed: Option<HashSet<String>>,
    /// What a predecessor has stored and nobody has claimed, to be removed.
    pub(crate) unclaimed: Vec<String>,
    /// Items that may be sent before the supervisor has to prove them; `None`: any number.
    pub(crate) offers_max: Option<usize>,
    /// Everything was taken out, so that the essentials fit.
    pub(crate) is_begun_anew: bool,
    /// Something did not fit.
    pub(crate) has_unstored: bool,
    /// It may fit now.
    pub(crate) has_room: bool,
    /// Items keep names under which they could not be sent again.
    pub(crate) is_to_send_again: bool,
    /// What was refused may be in the store all the same, and systemd stores nothing under a second
    /// name: nothing is offered until the removals are sent.
    pub(crate) removals_first: bool,
    pub(crate) answer_gate: AnswerGate<ClientId>,
    /// Keys of items that were removed, of which the daemon is told when the supervisor has heard it.
    pub(crate) leaving: HashSet<u64>,
    /// It is asked about them although nothing was sent.
    pub(crate) is_to_ask_for_leaving: bool,
    pub(crate) complaint: String,
}

impl StoreState {
    pub(crate) fn claim(&mut self, name: &str) {
        if let Some(claimed) = &mut self.claimed {
            claimed.insert(name.to_owned());
        }
    }
}

/// Places that are left free for the sentinels of the next questions.
pub(crate) const SPARE_FDS: usize = 2;

/// How long after the journal could not be written that is tried again.
pub(crate) const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// How long the supervisor may take to take everything, before an exec or an exit.
pub(crate) const DRAIN_PERIOD: Duration = Duration::from_secs(1);
