//! The interface between the loop and a daemon.

use super::caller::{Caller, ClientId};
use super::core::Core;
use crate::fd_store::names::Kind;
use crate::handover::document::Document;
use crate::handover::{FdSet, Successor};
use crate::jobs::storage::StorageId;
use crate::query::{Counters, Page, Place, Status};
use crate::rpc::{self, Call, Reply};

/// A handler's answer to a call.
#[derive(Debug)]
pub enum Answer {
    /// The result is available.
    Now(Result<Reply, rpc::Error>),
    /// The result follows through [`Core::answer`] when a job has ended.
    Later,
}

/// Behaviour of a daemon. All methods run on the loop, and none may block.
pub trait Daemon: Send + Sized + 'static {
    /// What depends on the process where no supervisor keeps its fds, for the log.
    const STAKE: &'static str;

    /// Result of its jobs.
    type Outcome: Send + 'static;

    /// Handles a call of its program from an admitted client.
    fn call(&mut self, core: &mut Core<Self::Outcome>, from: Caller, call: Call) -> Answer;

    /// Notifies that a client has disconnected. Its call in flight, if any, needs no answer.
    fn disconnected(&mut self, core: &mut Core<Self::Outcome>, caller: Caller);

    /// Notifies that this daemon closed a client's connection for a reason not of the client's
    /// making. Its call in flight, if any, needs no answer.
    fn dropped(&mut self, core: &mut Core<Self::Outcome>, caller: Caller) {
        self.disconnected(core, caller);
    }

    /// Notifies that an fd watched under `source` is ready.
    fn ready(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// Notifies that a timer set for `source` has fired.
    fn timer(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// Notifies that a job has ended.
    fn job_ended(&mut self, core: &mut Core<Self::Outcome>, outcome: Self::Outcome);

    /// Notifies, once per job, that a job for `source` is stalled, or waits for a stalled one.
    fn job_stalled(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// Notifies that a job [submitted by a path](Core::submit_at_path) for `source` is done on this
    /// file system.
    fn job_moved_to(&mut self, _source: u64, _place: StorageId) {}

    /// Describes the work in progress for `source`, for the log.
    fn describe_job(&self, source: u64) -> String;

    /// Notifies that the process exits although a job for `source` has not ended. The daemon
    /// releases what others wait for: the kernel does so only when the job has ended.
    fn job_abandoned(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// Returns whether the daemon is in use other than by clients, so that it must not exit idle.
    fn is_in_use(&self) -> bool;

    /// Adds the daemon's part to a state document for `successor`.
    fn save<'a>(&'a self, document: &mut Document<'a>, fd_set: &'a FdSet, successor: Successor);

    /// Adds to the journal's header what has no key in the fd store but must outlive the process.
    fn save_header(&self, _: &mut Document<'_>) {}

    /// Brings all state into a form that `successor` understands, ahead of an upgrade. Jobs for
    /// that are waited for, within a bound.
    fn prepare_handover(&mut self, core: &mut Core<Self::Outcome>, successor: Successor);

    /// Returns a short status without clients, for `systemctl status`. Called once a second; its
    /// cost must not grow with the number of guests.
    fn status(&self) -> String;

    /// Describes briefly what a crash, a restart or a stop loses without an fd store; `None` for
    /// nothing. As cheap as [`Self::status`].
    fn at_stake(&self) -> Option<String>;

    /// Adds the daemon's part to a status for who looks into it. As cheap as [`Self::status`].
    fn describe(&self, status: &mut Status);

    /// Adds the daemon's part to the counts for who looks into it. As cheap as [`Self::status`].
    fn count(&self, counters: &mut Counters);

    /// Puts the logs or leases behind `after` on a page, until it is full.
    fn list(&self, core: &Core<Self::Outcome>, after: Place, page: &mut Page);

    /// Stores the daemon's [slot files](Core::essential_marks), if it has any. Called when an fd
    /// store is found, at most once in a process.
    fn store_essentials(&mut self, _: &mut Core<Self::Outcome>) {}

    /// Stores everything, keyed items [under their keys](Core::store_as). Called when an fd store
    /// is found.
    fn store_all(&mut self, core: &mut Core<Self::Outcome>);

    /// Stores items that did not fit before, until one does not. Called when the fd store has room.
    fn store_more(&mut self, core: &mut Core<Self::Outcome>);

    /// Notifies that the supervisor was told to remove the item with this key, whose removal [was
    /// watched](Core::watch_removal).
    fn has_left_store(&mut self, _: &mut Core<Self::Outcome>, _key: u64) {}

    /// Notifies that an item that was sent did not fit and has lost its key.
    fn not_stored(&mut self, kind: Kind, key: u64);

    /// Notifies that a client's connection did not fit.
    fn client_not_stored(&mut self, client: ClientId);

    /// Clears all keys: the fd store was emptied.
    fn clear_store_keys(&mut self);

    /// Resumes work that was [held back](Core::holds_back): the upgrade failed.
    fn resume(&mut self, core: &mut Core<Self::Outcome>);

    /// Stores what can be stored ahead of an exit. What takes no time may still be served.
    fn stop(&mut self, core: &mut Core<Self::Outcome>);

    /// Stops the remaining service. The daemon exits once short jobs have ended.
    fn stop_rest(&mut self, _: &mut Core<Self::Outcome>) {}

    /// Returns whether everything started by the last of these two calls has finished.
    fn has_stopped(&self, core: &Core<Self::Outcome>) -> bool {
        core.jobs_in_flight().next().is_none()
    }
}
