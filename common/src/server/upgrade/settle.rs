//! Settling: calls and jobs in flight come to their end before an exec.

use std::time::Duration;

use nix::errno::Errno;

use super::stage::NextProgram;
use super::stage::Upgrade;
use crate::admin;
use crate::handover::Successor;
use crate::rpc;
use crate::rpc::error::Domain;
use crate::server::client::{Client, Closed};
use crate::server::core::Core;
use crate::server::daemon::Daemon;
use crate::server::token::Token;
use crate::sys::process;

/// Time for calls in flight, and for clients to send the rest of a message.
const SETTLE_PERIOD: Duration = Duration::from_secs(1);

impl<O> Core<O> {
    /// Returns whether everything has settled for [`Self::execute`].
    pub(in crate::server) fn check_ready_for_successor(&mut self) -> bool {
        if let Upgrade::Settling { next, timer } = &self.upgrade {
            let (successor, timer) = (next.successor, *timer);
            // Last, as it closes clients.
            let is_ready = self.has_settled(successor)
                && self.check_log_written()
                && !self.drop_ended_clients(successor);
            if is_ready && let Upgrade::Settling { next, .. } = std::mem::take(&mut self.upgrade) {
                self.reactor.cancel_timer(timer);
                self.upgrade = Upgrade::Ready(next);
            }
        }
        match self.upgrade {
            Upgrade::Ready(_) => true,
            Upgrade::Postponed => self.jobs.are_over() && !self.check_log_hangs(),
            Upgrade::None | Upgrade::Asking { .. } | Upgrade::Settling { .. } => false,
        }
    }

    pub(super) fn settle<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D, next: NextProgram) {
        if next.successor == Successor::Libvirt {
            if let Some(pid) = self.hidden_peer() {
                return self.refuse_upgrade(&format_args!(
                    "libvirt's daemon would end, as it could not see process {pid}, a client, in \
                     /proc; is that mounted with hidepid=?"
                ));
            }
            tracing::info!(
                target: "daemon",
                "Upgrade: {} is libvirt's daemon; handing over libvirt's part of the state",
                next.target.path.display()
            );
        }
        daemon.prepare_handover(self, next.successor);
        self.haste.set(true);
        self.supervisor().set_paced(false);
        let timer = self.reactor.set_timer(SETTLE_PERIOD, Token::Upgrade);
        self.upgrade = Upgrade::Settling { next, timer };
    }

    /// Returns the pid of a live client that libvirt's daemon could not see in `/proc`. It does not look
    /// for one of another pid namespace, which has none.
    fn hidden_peer(&self) -> Option<i32> {
        let servers = [&self.servers.main, &self.servers.admin];
        let mut clients = servers.into_iter().flat_map(|server| server.clients.values());
        let pid = |client: &Client| client.caller().peer.pid;
        let is_hidden = |client: &Client| pid(client) > 0 && !process::is_shown(pid(client));
        let hidden = clients.find(|client| is_hidden(client) && !client.peer_has_ended());
        hidden.map(pid)
    }

    /// Closes clients whose process has ended: libvirt's daemon would exit on one. Settling may
    /// have ended a guest just now. Returns whether any client was closed.
    fn drop_ended_clients(&mut self, successor: Successor) -> bool {
        if successor == Successor::Libvirt {
            self.drop_clients(|client| client.peer_has_ended());
        }
        !self.gone.is_empty()
    }

    fn has_settled(&self, successor: Successor) -> bool {
        let mut clients =
            self.servers.main.clients.values().chain(self.servers.admin.clients.values());
        self.jobs.are_over()
            && self.gone.is_empty()
            && clients.all(|client| is_settled(client, successor))
    }

    /// Ends what has not settled: calls are answered with an error, and libvirt's daemons get no
    /// client with half a message.
    pub(super) fn settle_by_force(&mut self, successor: Successor) {
        self.release_held_back();
        for server in [&mut self.servers.main, &mut self.servers.admin] {
            let late = server.clients.values_mut().filter(|client| client.has_call_in_flight());
            late.for_each(|client| client.answer(Err(interrupted())));
        }
        if successor == Successor::Libvirt {
            self.drop_clients(|client| {
                // A client that can be written to gets its answer first.
                client.flush().ok();
                client.peer_has_ended() || !is_settled(client, Successor::Libvirt)
            });
        }
    }

    fn drop_clients(&mut self, mut is_dropped: impl FnMut(&mut Client) -> bool) {
        for server in [admin::Server::Main, admin::Server::Admin] {
            let clients = self.servers.get_mut(server).clients.values_mut();
            let ids = clients.filter_map(|client| is_dropped(client).then(|| client.id()));
            for id in ids.collect::<Vec<_>>() {
                self.drop_client(id, &Closed::Upgrade);
            }
        }
    }
}

fn is_settled(client: &Client, successor: Successor) -> bool {
    let idle = !client.has_call_in_flight();
    idle && (successor == Successor::Ours || client.connection().is_idle())
}

fn interrupted() -> rpc::Error {
    let detail = "this daemon is being upgraded, and what was asked for takes too long: try again";
    rpc::Error::system(Domain::Rpc, detail, Errno::EAGAIN as i32)
}
