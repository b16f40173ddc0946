//! State of the supervisor's fd store, for recovery after a restart.

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

/// State of the supervisor's fd store, for recovery after a restart.
#[derive(Debug, Default)]
pub(crate) struct StoreState {
    /// Capacity in fds, as far as known; 0 for no store.
    pub(crate) fds_max: usize,
    /// Capacity in fds according to the unit or the environment.
    pub(crate) known_max: usize,
    pub(crate) keys: Keys,
    pub(crate) journal: Option<Journal>,
    pub(crate) journal_failed_at: Option<Instant>,
    /// The journal should be rewritten.
    pub(crate) is_stale: bool,
    /// A change could not be recorded.
    pub(crate) is_incomplete: bool,
    /// Essentials by name; see [`super::essentials`].
    pub(crate) essentials: Vec<(String, OwnedFd)>,
    /// A predecessor's essentials that are not in use yet.
    pub(crate) adopted: Vec<(String, OwnedFd)>,
    /// Slot file of pending replies.
    pub(crate) calls: Option<Arc<SlotFile>>,
    pub(crate) proof: Proof,
    /// Names used since everything began to be stored anew; `None` otherwise.
    pub(crate) claimed: Option<HashSet<String>>,
    /// Stored names of a predecessor that are in no use, to be removed.
    pub(crate) unclaimed: Vec<String>,
    /// Items that may be sent before the supervisor has to prove them; `None` for no limit.
    pub(crate) offers_max: Option<usize>,
    /// Everything was removed to make room for the essentials.
    pub(crate) is_begun_anew: bool,
    /// Some item did not fit.
    pub(crate) has_unstored: bool,
    /// Times that an item did not fit, whether or not it was sent.
    pub(crate) refusals: u64,
    /// An item may fit now.
    pub(crate) has_room: bool,
    /// Some item keeps a name under which it could not be sent again.
    pub(crate) is_to_send_again: bool,
    /// Nothing is offered until the removals are sent. A refused item may be stored all the same,
    /// and systemd stores nothing under a second name.
    pub(crate) removals_first: bool,
    pub(crate) answer_gate: AnswerGate<ClientId>,
    /// Keys of removed items. The daemon is notified when the supervisor has received the removal.
    pub(crate) leaving: HashSet<u64>,
    /// A proof is requested for them although nothing was sent.
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

/// Places left free for the sentinels of the next proofs.
pub(crate) const SPARE_FDS: usize = 2;

/// Pause before the journal is written again after a failure.
pub(crate) const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// Time for the supervisor to receive everything before an exec or an exit.
pub(crate) const DRAIN_PERIOD: Duration = Duration::from_secs(1);
