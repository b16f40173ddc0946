//! The loop's view of the daemon.

use std::path::Path;

use common::fd_store::names::Kind;
use common::handover::document::Document;
use common::handover::{FdSet, Successor};
use common::query::{Counters, Page, Place, Status};
use common::rpc::{Call, Reply};
use common::server::{Answer, Caller, ClientId, Daemon};

use crate::calls::{self, CallState};
use crate::connections::{self, handle_deferred_ends};
use crate::error::lock::LockError;
use crate::ids::{ALARM, JobSubject, OwnerId, PROBER, TimerSubject};
use crate::lockspace::queue::ResourceQueue;
use crate::lockspace::{execution, lock_check};
use crate::outcome::{Completion, Core, Outcome};
use crate::owner::entry::Owner;
use crate::owner::{lifecycle, termination, watch_retry};
use crate::persist::{fd_store, save};
use crate::proof::policy::Policy;
use crate::proof::watch;
use crate::protocol::Request;
use crate::query;
use crate::session::{Disconnect, Session};
use crate::shutdown;
use crate::state::{State, Unstored};

/// The daemon.
#[derive(Debug)]
pub struct Handler {
    pub(crate) state: State,
}

impl Handler {
    /// Creates a daemon without leases.
    pub(crate) fn new(policy: Policy) -> Self {
        Self { state: State::new(policy) }
    }
}

impl Daemon for Handler {
    const STAKE: &'static str =
        "a crash or a kill frees all leases, a stop or a restart ends the guests that hold them";

    type Outcome = Outcome;

    fn call(&mut self, core: &mut Core, from: Caller, call: Call) -> Answer {
        let request = Request::decode(call.procedure, &call.arguments)
            .and_then(|request| request.check_flags().map(|()| request));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Answer::Now(Err(error)),
        };
        let started = calls::start(&mut self.state, core, from, request);
        handle_deferred_ends(&mut self.state, core);
        match started {
            Ok(CallState::InFlight) => Answer::Later,
            Ok(CallState::Finished) => Answer::Now(Ok(Reply::default())),
            Err(refusal) => Answer::Now(self.state.sessions.reply(from.client, Err(refusal))),
        }
    }

    fn disconnected(&mut self, core: &mut Core, caller: Caller) {
        connections::disconnected(&mut self.state, core, caller.client, Disconnect::Closed);
        handle_deferred_ends(&mut self.state, core);
    }

    fn dropped(&mut self, core: &mut Core, caller: Caller) {
        connections::disconnected(&mut self.state, core, caller.client, Disconnect::Dropped);
        handle_deferred_ends(&mut self.state, core);
    }

    /// Handles the readiness of an owner's pidfd, or a report or an alarm on shared storage.
    fn ready(&mut self, core: &mut Core, source: u64) {
        match source {
            PROBER => watch::reported(&mut self.state, core),
            ALARM => watch::check(&mut self.state, core),
            _ => {}
        }
        let id = OwnerId(source);
        if self.state.owners.get(id).is_some_and(Owner::has_ended) {
            lifecycle::owner_ended(&mut self.state, core, id);
        }
        handle_deferred_ends(&mut self.state, core);
    }

    fn timer(&mut self, core: &mut Core, source: u64) {
        match TimerSubject::from(source) {
            TimerSubject::WatchRetry => watch_retry::retry(&mut self.state, core),
            TimerSubject::LockRetry => lock_check::retry(&mut self.state, core),
            TimerSubject::LeaseBreakRetry => execution::retry_postponed(&mut self.state, core),
            TimerSubject::Proof => watch::check(&mut self.state, core),
            TimerSubject::Owner(id) => termination::kill(&mut self.state, id),
        }
        handle_deferred_ends(&mut self.state, core);
    }

    fn job_ended(&mut self, core: &mut Core, outcome: Outcome) {
        let state = &mut self.state;
        match outcome.0 {
            Completion::Ignored => {}
            Completion::Task(resource, job_result) => {
                execution::job_ended(state, core, resource, job_result);
            }
            Completion::Terminations(owners) => lifecycle::release_ended(state, core, owners),
            Completion::Directory { client, space, is_new, result } => {
                let result = match result {
                    Ok(()) => calls::directory_made(state, core, space, is_new),
                    Err(error) => Err(LockError::File(error)),
                };
                state.sessions.answer(core, client, result);
            }
        }
        handle_deferred_ends(state, core);
    }

    /// Logs a slow job. Only its client waits for it, and others for the same resource.
    fn job_stalled(&mut self, _: &mut Core, source: u64) {
        tracing::debug!(target: "locking.lock_daemon", "Slow job: {}", self.describe_job(source));
    }

    fn describe_job(&self, source: u64) -> String {
        let resource = match JobSubject::from(source) {
            JobSubject::Terminations => return "termination of guests".to_owned(),
            JobSubject::NoResource => None,
            JobSubject::Resource(id) => Some(id),
        };
        let path = resource.and_then(|id| self.state.lockspaces.path(id));
        let path = path.as_deref().unwrap_or(Path::new("the directory of a lockspace"));
        let client =
            resource.and_then(|id| self.state.queues.get(&id)).and_then(ResourceQueue::client);
        let requester = client.and_then(|client| self.state.sessions.get(client));
        match requester.map(Session::requester) {
            Some(requester) => format!("call of {requester} for {}", path.display()),
            None => format!("task for {}", path.display()),
        }
    }

    /// Does nothing: no client waits for the fds of a lease.
    fn job_abandoned(&mut self, _: &mut Core, _: u64) {}

    fn is_in_use(&self) -> bool {
        !self.state.lockspaces.are_unused()
    }

    fn save<'a>(&'a self, document: &mut Document<'a>, fd_set: &'a FdSet, reader: Successor) {
        save::save(&self.state, document, fd_set, reader);
    }

    fn save_header(&self, document: &mut Document<'_>) {
        save::save_without_leases(&self.state, document);
    }

    fn prepare_handover(&mut self, core: &mut Core, reader: Successor) {
        self.state.lease_breaks.prepare_upgrade();
        shutdown::end_proof(&mut self.state, reader);
        if reader == Successor::Libvirt {
            // The outputs of the log are held while the document is made.
            save::log_what_stays_behind(&self.state);
        }
        termination::complete_for(reader, &self.state, core);
    }

    fn store_all(&mut self, core: &mut Core) {
        fd_store::store_all(&mut self.state, core);
        lock_check::convert_all_to_ofd(&mut self.state, core);
        handle_deferred_ends(&mut self.state, core);
    }

    fn store_more(&mut self, core: &mut Core) {
        fd_store::store_unstored(&mut self.state, core);
    }

    fn not_stored(&mut self, kind: Kind, key: u64) {
        fd_store::forget_key(&mut self.state, kind, key);
    }

    fn client_not_stored(&mut self, client: ClientId) {
        self.state.unstored.insert(Unstored::Session(client));
    }

    fn clear_store_keys(&mut self) {
        fd_store::clear_store_keys(&mut self.state);
    }

    fn resume(&mut self, core: &mut Core) {
        self.state.lease_breaks.cancel_upgrade();
        watch::resume(&mut self.state, core);
    }

    fn status(&self) -> String {
        format!("{} leases held", self.state.owners.leases_count())
    }

    fn at_stake(&self) -> Option<String> {
        let leases = self.state.owners.leases_count();
        let cost = "a restart or a stop ends the guests that hold them";
        (leases > 0).then(|| format!("a crash frees {leases} leases, {cost}"))
    }

    fn describe(&self, status: &mut Status) {
        status.leases = Some(self.state.owners.leases_count() as u64);
    }

    fn count(&self, counters: &mut Counters) {
        counters.leases = Some(query::counters(&self.state));
    }

    fn list(&self, core: &Core, after: Place, page: &mut Page) {
        query::list(core, &self.state, after, page);
    }

    fn stop(&mut self, core: &mut Core) {
        shutdown::stop(&mut self.state, core);
        handle_deferred_ends(&mut self.state, core);
    }
}
