//! Dispatch of events, and of the outcomes of jobs.

use crate::event::Event;
use crate::server::caller::Gone;
use crate::server::core::{Core, Done, NOT_THE_DAEMONS};
use crate::server::daemon::Daemon;
use crate::server::serve::serve;
use crate::server::token::Token;
use crate::sys::signal::Request;

pub(super) fn handle<D: Daemon>(core: &mut Core<D::Outcome>, daemon: &mut D, event: Event<Token>) {
    core.supervision.note_activity();
    match event {
        Event::Ready(Token::Daemon(source)) => daemon.ready(core, source),
        Event::Ready(Token::Client(id)) | Event::Timer(Token::Client(id)) => {
            if let Some(client) = core.servers.client(id) {
                client.ready();
            }
            serve(core, daemon, id);
        }
        Event::Ending(Token::Client(id)) => {
            if let Some(client) = core.servers.client(id) {
                client.ending();
            }
        }
        Event::Ready(Token::Listener(server, index)) => {
            core.accept_from(server, index);
        }
        Event::Ready(Token::Signals) => take_signals(core, daemon),
        Event::Ready(Token::Upgrade) => core.target_has_answered(daemon),
        Event::Timer(Token::Upgrade) => core.upgrade_is_late(daemon),
        Event::Timer(Token::DaemonTimer(source)) => daemon.timer(core, source),
        Event::Timer(Token::Accept(server)) => {
            core.servers.get_mut(server).paused = false;
            core.accept(server);
        }
        Event::Timer(Token::Idle) => {
            core.idle.fired();
            if !core.servers.have_clients() && !daemon.is_in_use() {
                tracing::info!(target: "rpc.netdaemon", "Idle timeout reached; exiting");
                core.stopping = true;
            }
        }
        Event::Ready(_) | Event::Ending(_) | Event::Timer(_) => {}
    }
}

/// Handles the consequences of the last event or job: ended jobs, answered clients, closed clients.
pub(super) fn run_pending<D: Daemon>(core: &mut Core<D::Outcome>, daemon: &mut D) {
    loop {
        if let Some((caller, gone)) = core.gone.pop_front() {
            match gone {
                Gone::ByClient => daemon.disconnected(core, caller),
                Gone::ByUs => daemon.dropped(core, caller),
            }
            core.accept(caller.client.server);
        } else if let Some((client, result)) = core.next_held_back() {
            core.answer_now(client, result);
        } else if core.is_store_to_be_tended() {
            core.tend_store(daemon);
        } else if std::mem::take(&mut core.has_resumed) {
            daemon.resume(core);
        } else if let Some(done) = core.jobs.take_ended() {
            match done {
                Done::Daemons(outcome) => daemon.job_ended(core, outcome),
                Done::Elsewhere(errand) => {
                    let source = errand.source;
                    let place = core.send_on(errand);
                    daemon.job_moved_to(source, place);
                }
                Done::Names(asking, call, names) => core.names_are_known(asking, call, names),
                Done::Outputs(asking, call, outputs) => {
                    core.outputs_are_open(asking, call, outputs);
                }
                Done::Unit(answer) => core.unit_is_known(daemon, answer),
            }
        } else if let Some(source) = core.jobs.take_late() {
            if source != NOT_THE_DAEMONS {
                daemon.job_stalled(core, source);
            }
        } else if let Some(client) = core.answered.pop_front() {
            serve(core, daemon, client);
        } else {
            return;
        }
    }
}

impl<O> Core<O> {
    /// Exits without the state that jobs work on.
    pub(super) fn close(self) {
        let Self { jobs, .. } = self;
        std::mem::forget(jobs);
    }
}

fn take_signals<D: Daemon>(core: &mut Core<D::Outcome>, daemon: &D) {
    for request in core.signals.take() {
        match request {
            Request::Stop => core.stopping = true,
            Request::Upgrade => core.begin_upgrade(daemon),
            Request::ChildEnded => core.orphans_may_have_ended = true,
            Request::HangUp => tracing::info!(
                target: "daemon",
                "SIGHUP: nothing to do; a changed configuration is read at the next start or upgrade"
            ),
        }
    }
}
