//! What a daemon is to the loop.

use super::caller::{Caller, ClientId};
use super::core::Core;
use crate::fd_store::names::Kind;
use crate::handover::document::Document;
use crate::handover::{FdSet, Successor};
use crate::jobs::storage::StorageId;
use crate::rpc::{self, Call, Reply};

/// What a handler has to say to a call.
#[derive(Debug)]
pub enum Answer {
    /// The result is there.
    Now(Result<Reply, rpc::Error>),
    /// It will be given to [`Core::answer`] when a job has ended.
    Later,
}

/// What a daemon does; all of it on the loop, none of it waiting for anything.
pub trait Daemon: Send + Sized + 'static {
    /// What its jobs bring back.
    type Outcome: Send + 'static;

    /// Handles a call of its program, from a client that was admitted.
    fn call(&mut self, core: &mut Core<Self::Outcome>, from: Caller, call: Call) -> Answer;

    /// A client has gone. Its call in flight, if any, needs no answer.
    fn disconnected(&mut self, core: &mut Core<Self::Outcome>, caller: Caller);

    /// A client was let go of, for a reason that is not its own. Its call in flight, if any, needs
    /// no answer.
    fn dropped(&mut self, core: &mut Core<Self::Outcome>, caller: Caller) {
        self.disconnected(core, caller);
    }

    /// Something that the daemon watches under `source` is ready.
    fn ready(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// A timer that the daemon set for `source` has fired.
    fn timer(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// A job has ended.
    fn job_ended(&mut self, core: &mut Core<Self::Outcome>, outcome: Self::Outcome);

    /// A job for `source` has not ended and will not soon, or it waits for one that does not. Said
    /// once of each such job.
    fn job_stalled(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// A job that was [submitted by a path](Core::submit_at_path) for `source` is done at this place.
    fn job_moved_to(&mut self, _source: u64, _place: StorageId) {}

    /// What is under way for `source`, for the log.
    fn describe_job(&self, source: u64) -> String;

    /// The process exits although a job for `source` has not ended. Whatever others wait for is to
    /// be let go of now: the kernel does not do that before the job has ended.
    fn job_abandoned(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// Whether anybody depends on the daemon beside its clients, so that it must not exit idle.
    fn is_in_use(&self) -> bool;

    /// Puts its own part into a state document for `reader`.
    fn save<'a>(&'a self, document: &mut Document<'a>, fd_set: &'a FdSet, reader: Successor);

    /// Puts into the beginning of the journal what has no key in the fd store and is to outlive the
    /// process all the same.
    fn save_header(&self, _: &mut Document<'_>) {}

    /// An upgrade is near: bring everything into a form that `reader` understands. Jobs for that
    /// are waited for, within a bound.
    fn prepare_handover(&mut self, core: &mut Core<Self::Outcome>, reader: Successor);

    /// How things are, in a few words without clients, for `systemctl status`. It is asked for once
    /// a second and must not cost more with more guests.
    fn status(&self) -> String;

    /// What a crash, a restart or a stop costs without an fd store, in a few words; `None` when that
    /// is nothing. As cheap as [`Self::status`].
    fn at_stake(&self) -> Option<String>;

    /// There is an fd store: has [marks](Core::essential_marks) kept, if it makes any. Once in the
    /// life of the process at the most.
    fn store_essentials(&mut self, _: &mut Core<Self::Outcome>) {}

    /// There is an fd store: has everything kept, what has a key [under that](Core::keep_as).
    fn store_all(&mut self, core: &mut Core<Self::Outcome>);

    /// There is room in the fd store: has kept what did not fit, until something does not.
    fn store_more(&mut self, core: &mut Core<Self::Outcome>);

    /// The supervisor has heard that it is to remove the item with this key, of which that
    /// [was to be told](Core::watch_removal).
    fn has_left_store(&mut self, _: &mut Core<Self::Outcome>, _key: u64) {}

    /// An item that was sent did not fit, and has no key any more.
    fn not_stored(&mut self, kind: Kind, key: u64);

    /// The connection of a client did not fit.
    fn client_not_stored(&mut self, client: ClientId);

    /// The fd store was emptied: nothing has a key any more.
    fn clear_store_keys(&mut self);

    /// The upgrade came to nothing: work that was [held back](Core::holds_back) goes on.
    fn resume(&mut self, core: &mut Core<Self::Outcome>);

    /// The daemon is about to exit: store what can be stored. What needs no time may be served on.
    fn stop(&mut self, core: &mut Core<Self::Outcome>);

    /// The daemon exits now, but for jobs that end soon.
    fn stop_rest(&mut self, _: &mut Core<Self::Outcome>) {}

    /// Whether all that is waited for has been done since the last of these two calls.
    fn has_stopped(&self, core: &Core<Self::Outcome>) -> bool {
        core.jobs_in_flight().next().is_none()
    }
}
