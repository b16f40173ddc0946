//! Clients: accepting, serving and closing them.

use std::time::Duration;

use super::caller::ClientId;
use super::caller::Gone;
use super::client::{Client, Closed};
use super::core::Core;
use super::daemon::{Answer, Daemon};
use super::servers::Accepted;
use super::token::Token;
use super::upgrade::Reading;
use crate::admin;
use crate::fd_store::names::Kind;
use crate::query;
use crate::rpc::Call;
use crate::rpc::connection::Message;
use crate::rpc::program::{self, Incoming, ReplyTo};
use crate::sys::shortage::is_shortage;

/// Connections accepted per turn.
const ACCEPTS_PER_TURN_MAX: usize = 32;

/// Pause of accepting after the kernel failed to give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Pause of serving a client after a shortage of the kernel's.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Serves one client's turn: writes, reads and starts calls, until nothing is left to do, an answer
/// is awaited, or the turn's budget is spent.
pub(super) fn serve<D: Daemon>(core: &mut Core<D::Outcome>, daemon: &mut D, id: ClientId) {
    while let Some(client) = core.servers.client(id) {
        let reading = if core.takes_no_calls { Reading::Nothing } else { core.upgrade.reading() };
        if core.calls_left == 0 && matches!(client.flush(), Ok(true)) {
            core.reactor.again(Token::Client(id));
            return core.count_bytes(id);
        }
        match next_message(client, reading) {
            Ok(Some(message)) => take_message(core, daemon, id, message),
            Ok(None) => return core.count_bytes(id),
            // It may hold leases, and is ended with its connection.
            Err(Closed::Io(error)) if is_shortage(&error) => {
                core.reactor.set_timer(SHORTAGE_PAUSE, Token::Client(id));
                return core.count_bytes(id);
            }
            Err(reason) => return core.drop_client(id, &reason),
        }
    }
}

fn next_message(client: &mut Client, reading: Reading) -> Result<Option<Message>, Closed> {
    if !client.flush()? || reading == Reading::Nothing {
        return Ok(None);
    }
    let only_rest = reading == Reading::Rest;
    if only_rest && client.connection().is_idle() {
        return Ok(None);
    }
    client.read_message(only_rest)
}

fn take_message<D: Daemon>(
    core: &mut Core<D::Outcome>,
    daemon: &mut D,
    id: ClientId,
    message: Message,
) {
    core.calls_left = core.calls_left.saturating_sub(1);
    let incoming = program::accept(core.servers.get(id.server).programs, message);
    tracing::debug!(target: "rpc.netserverclient", "{id}: {incoming}");
    let Some(client) = core.servers.client(id) else { return };
    match incoming {
        Incoming::Answered(answer) => client.send(answer),
        Incoming::Dropped => client.dropped(),
        Incoming::Call(call, reply_to) => take_call(core, daemon, id, call, reply_to),
    }
}

fn take_call<D: Daemon>(
    core: &mut Core<D::Outcome>,
    daemon: &mut D,
    id: ClientId,
    call: Call,
    reply_to: ReplyTo,
) {
    let Some(client) = core.servers.client(id) else { return };
    client.begin(reply_to);
    let caller = client.caller();
    let is_query = reply_to.program() == query::PROGRAM.number;
    let answer = match id.server {
        admin::Server::Main => daemon.call(core, caller, call),
        admin::Server::Admin if is_query => Answer::Now(core.query(daemon, &call)),
        admin::Server::Admin => core.administer(id, call),
    };
    match answer {
        // A query promises nothing.
        Answer::Now(result) if !is_query && core.must_wait_for_supervisor() => {
            core.answer(id, result);
        }
        Answer::Now(result) => {
            if let Some(client) = core.servers.client(id) {
                client.answer(result);
            }
        }
        Answer::Later => {}
    }
}

impl<O> Core<O> {
    /// Accepts on all listeners of a server that was full or paused.
    pub(super) fn accept(&mut self, server: admin::Server) {
        for index in 0..self.servers.get(server).listeners_count() {
            self.accept_from(server, index);
        }
    }

    /// Accepts on one listener, within a turn's budget.
    pub(super) fn accept_from(&mut self, server: admin::Server, index: u64) {
        if self.upgrade.holds_back() {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            match self.servers.get_mut(server).accept(index, server, &self.reactor) {
                Accepted::One => {}
                Accepted::None => return,
                Accepted::Pause(error) => {
                    tracing::error!(
                        target: "rpc.netserver",
                        "Unable to accept a client of server {}, trying again in {} s: {error}",
                        self.servers.get(server).name, ACCEPT_PAUSE.as_secs()
                    );
                    self.reactor.set_timer(ACCEPT_PAUSE, Token::Accept(server));
                    self.servers.get_mut(server).paused = true;
                    return;
                }
            }
        }
        self.reactor.again(Token::Listener(server, index));
    }

    pub(super) fn drop_client(&mut self, id: ClientId, reason: &Closed) {
        let server = self.servers.get_mut(id.server);
        let Some(client) = server.clients.remove(&id.number) else { return };
        server.held.change(client.counted_bytes, 0);
        match reason {
            Closed::Violation(_) | Closed::Io(_) | Closed::Upgrade | Closed::Memory(_) => {
                server.closed += 1;
                tracing::warn!(target: "rpc.netserverclient", "Closing {id}: {reason}");
            }
            Closed::End | Closed::EndMidMessage | Closed::Asked => {
                tracing::debug!(target: "rpc.netserverclient", "{id} has gone: {reason}");
            }
        }
        if let Some(key) = client.key() {
            // Closing alone ends nothing while the fd store has the connection too.
            client.shut_down();
            self.remove_stored(Kind::Client, key);
        }
        let gone = match reason {
            Closed::End | Closed::EndMidMessage | Closed::Io(_) => Gone::ByClient,
            Closed::Violation(_) | Closed::Upgrade | Closed::Asked | Closed::Memory(_) => {
                Gone::ByUs
            }
        };
        self.gone.push_back((client.caller(), gone));
        drop(client);
        self.servers.get_mut(id.server).held.free();
    }
}
