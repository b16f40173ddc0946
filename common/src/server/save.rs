//! Conversion of the servers to and from a state document.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::caller::Caller;
use super::caller::ClientId;
use super::client::Client;
use super::core::Core;
use super::listener::Listener;
use super::own_log::OPEN_PERIOD;
use super::servers::{Limits, Server};
use super::token::Token;
use crate::admin::{self, Target as _};
use crate::event::{Interest, Reactor};
use crate::handover::document::{
    self, Buffer, PrivateClient, PrivateDaemon, Service, Session, Socket,
};
use crate::handover::{FdSet, InheritedFds};
use crate::rpc::connection::{Buffered, Side};
use crate::rpc::error::Domain;
use crate::rpc::program::ReplyTo;
use crate::rpc::{self, Connection};
use crate::sys::{fd, process, socket};

/// libvirt's value for no keepalive messages.
const NO_KEEPALIVE: u32 = u32::MAX;

/// Calls in flight per client; libvirt's value.
const CALLS_MAX: u32 = 1;

/// Highest number of a client that is adopted. Counting never reaches it, counting on from it never
/// overflows, and a token has room for it.
const CLIENT_NUMBER_MAX: u64 = 1 << 48;

impl<O> Core<O> {
    /// Returns both servers with their listeners and clients.
    ///
    /// # Errors
    /// As `memfd_create(2)`, for the clients' buffers.
    pub fn save(&self, fd_set: &FdSet) -> io::Result<document::Daemon> {
        let mut servers = std::collections::BTreeMap::new();
        for server in [&self.servers.main, &self.servers.admin] {
            if server.listeners_count() > 0 || !server.clients.is_empty() {
                servers.insert(server.name.to_owned(), server.save(fd_set)?);
            }
        }
        Ok(document::Daemon::Named { servers })
    }

    /// Adopts settings made through a predecessor's admin socket.
    pub fn adopt_overrides(&mut self, from: &PrivateDaemon) {
        if let Some(timeout_s) = from.timeout_s {
            self.set_idle_timeout_s(timeout_s);
        }
        let limits =
            [(admin::Server::Main, from.main_limits), (admin::Server::Admin, from.admin_limits)];
        for (server, limits) in limits {
            if let Some((clients_max, unauthenticated_max)) = limits {
                let unauthenticated_max = unauthenticated_max.min(clients_max);
                self.set_limits(server, Limits { clients_max, unauthenticated_max });
            }
        }
        let filters = from.log_filters.as_ref().map(|filters| self.set_log_filters(filters));
        if let Some(Err(error)) = filters {
            tracing::error!(
                target: "daemon",
                "Unable to restore the log filters: {}", error.message()
            );
        }
        let outputs = from.log_outputs.as_ref();
        let outputs = outputs.map(|outputs| self.set_log_outputs_within(outputs, OPEN_PERIOD));
        if let Some(Err(error)) = outputs {
            tracing::error!(target: "daemon", "Unable to restore the log outputs: {error}");
        }
    }

    /// Keeps fds of unknown use open.
    pub fn set_unclaimed_fds(&mut self, fds: Vec<OwnedFd>) {
        self.process_info.unclaimed_fds = fds;
    }

    /// Adopts a server's limits and clients. Unusable ones are logged and left out. Returns the
    /// adopted clients, with the daemon's data of each.
    pub fn adopt(
        &mut self,
        kind: admin::Server,
        from: document::Server,
        inherited: &mut InheritedFds,
    ) -> Vec<(Caller, Session)> {
        let server = self.servers.get_mut(kind);
        let adopted = server.adopt(from, kind, inherited, &self.reactor);
        // Input may have arrived for them, or be in their buffers.
        self.answered.extend(server.clients.values().map(Client::id));
        adopted
    }
}

/// Returns the listeners of a server. Unusable ones are logged and left out.
pub fn adopt_listeners(from: &document::Server, inherited: &mut InheritedFds) -> Vec<Listener> {
    let services = from.services.iter().flatten();
    let sockets = services.flat_map(|service| service.socks.iter().flatten());
    let adopted = sockets.filter_map(|from| {
        let listener = inherited.take_socket(from.fd).and_then(socket::listener_from);
        let adopted = listener.map(|listener| match from.unlink_unix {
            Some(false) => Listener::passed(listener),
            Some(true) | None => Listener::inherited(listener),
        });
        adopted
            .inspect_err(|error| {
                tracing::error!(
                    target: "rpc.netserver", "Unable to adopt listener fd {:?}: {error}", from.fd
                );
            })
            .ok()
    });
    adopted.collect()
}

impl Server {
    fn save(&self, fd_set: &FdSet) -> io::Result<document::Server> {
        let services = self.listeners().map(|listener| Service {
            auth: Some(0),
            readonly: Some(false),
            nrequests_client_max: Some(CALLS_MAX),
            socks: Some(vec![Socket {
                unlink_unix: Some(listener.is_own()),
                ..socket_of(fd_set.fd(listener.as_fd()), false)
            }]),
        });
        let services = services.collect();
        let clients = self.clients.values().map(|client| client.save(fd_set));
        Ok(document::Server {
            min_workers: Some(0),
            max_workers: Some(0),
            priority_workers: Some(self.priority_workers),
            max_clients: Some(self.limits.clients_max),
            max_anonymous_clients: Some(self.limits.unauthenticated_max),
            keepalive_interval: Some(NO_KEEPALIVE),
            keepalive_count: Some(0),
            next_client_id: Some(self.next_number),
            clients: Some(clients.collect::<io::Result<_>>()?),
            services: Some(services),
            servers: None,
        })
    }

    fn adopt(
        &mut self,
        from: document::Server,
        kind: admin::Server,
        inherited: &mut InheritedFds,
        reactor: &Reactor<Token>,
    ) -> Vec<(Caller, Session)> {
        if let Some(clients_max) = from.max_clients {
            let unauthenticated_max = from.max_anonymous_clients.unwrap_or(clients_max);
            let unauthenticated_max = unauthenticated_max.min(clients_max);
            self.limits = Limits { clients_max, unauthenticated_max };
        }
        self.priority_workers = from.priority_workers.unwrap_or(0);
        let mut clients = from.clients.unwrap_or_default();
        self.next_number = next_number(from.next_client_id, &mut clients);
        let mut adopted = Vec::new();
        for mut client in clients {
            let fd = client.sock.as_ref().and_then(|socket| socket.fd);
            let session = client.private_data.take().unwrap_or_default();
            match self.adopt_client(client, kind, inherited, reactor) {
                Ok(caller) => adopted.push((caller, session)),
                Err(error) => tracing::error!(
                    target: "rpc.netserver",
                    "Unable to adopt client fd {fd:?} of server {}: {error}",
                    self.name
                ),
            }
        }
        adopted
    }

    fn adopt_client(
        &mut self,
        from: document::Client,
        kind: admin::Server,
        inherited: &mut InheritedFds,
        reactor: &Reactor<Token>,
    ) -> io::Result<Caller> {
        let stream =
            UnixStream::from(inherited.take_socket(from.sock.and_then(|socket| socket.fd))?);
        let peer = socket::peer(&stream)?;
        if peer.uid != process::effective_uid() {
            return Err(io::Error::other(format!("its peer has uid {}", peer.uid)));
        }
        fd::set_nonblocking(&stream)?;
        let private = from.private.as_ref();
        let (key, pending) =
            private.map(|private| (private.key, private.pending_reply)).unwrap_or_default();
        let connection = match from.private {
            Some(private) => unpack(private, inherited)?,
            None => Connection::new(),
        };
        let number = match from.id {
            Some(id @ 1..=CLIENT_NUMBER_MAX) if !self.clients.contains_key(&id) => id,
            _ => {
                self.next_number += 1;
                self.next_number - 1
            }
        };
        let id = ClientId { server: kind, number };
        let socket = reactor.register(stream, Token::Client(id), Interest::Read)?;
        let since = from.conn_time.and_then(|since| u64::try_from(since).ok()).unwrap_or(0);
        let connected_at = SystemTime::UNIX_EPOCH + Duration::from_secs(since.min(u32::MAX.into()));
        let mut client = Client::adopted(id, peer, socket, connected_at, connection);
        key.into_iter().for_each(|key| client.set_key(key, None));
        if let Some(words) = pending {
            client.begin(ReplyTo::from_words(words));
            client.answer(Err(crashed()));
        }
        let caller = client.caller();
        self.clients.insert(number, client);
        Ok(caller)
    }
}

/// Returns the number of the next client. If the numbers in the document are too high to count on
/// from, its clients lose theirs and all are numbered anew.
fn next_number(next: Option<u64>, clients: &mut [document::Client]) -> u64 {
    let is_valid = |number: &u64| (1..=CLIENT_NUMBER_MAX).contains(number);
    let known: BTreeSet<_> =
        clients.iter().filter_map(|client| client.id.filter(is_valid)).collect();
    let next = next.filter(is_valid).unwrap_or(1).max(known.last().map_or(1, |last| last + 1));
    let new = u64::try_from(clients.len() - known.len()).unwrap_or(u64::MAX);
    if next.saturating_add(new) <= CLIENT_NUMBER_MAX {
        return next;
    }
    clients.iter_mut().for_each(|client| client.id = None);
    1
}

impl Client {
    fn save(&self, fd_set: &FdSet) -> io::Result<document::Client> {
        Ok(document::Client {
            id: Some(self.id().number),
            auth: Some(0),
            auth_pending: Some(false),
            readonly: Some(false),
            nrequests_max: Some(CALLS_MAX),
            conn_time: Some(self.connected_at_s()),
            sock: Some(Socket {
                unlink_unix: Some(false),
                ..socket_of(fd_set.fd(self.socket().as_fd()), true)
            }),
            private_data: Some(Session::default()),
            private: pack(self.key(), self.connection(), fd_set)?,
        })
    }
}

fn crashed() -> rpc::Error {
    let detail =
        "this daemon has crashed before it could answer: what was asked for may be done or not";
    rpc::Error::system(Domain::Rpc, detail, Errno::EIO as i32)
}

fn socket_of(fd: i32, is_client: bool) -> Socket {
    Socket {
        fd: Some(fd),
        errfd: Some(-1),
        pid: Some(0),
        is_client: Some(is_client),
        unlink_unix: None,
    }
}

/// Most clients have empty buffers.
fn pack(
    key: Option<u64>,
    connection: &Connection,
    fd_set: &FdSet,
) -> io::Result<Option<PrivateClient>> {
    if connection.is_idle() {
        return Ok(key.map(|key| PrivateClient { key: Some(key), ..PrivateClient::default() }));
    }
    let pack = |side: Side<BorrowedFd<'_>>| {
        let fds = side.fds.into_iter().map(|fd| fd_set.fd(fd)).collect();
        Ok::<_, io::Error>(Buffer { bytes: Some(fd_set.bytes(&side.bytes)?), fds: Some(fds) })
    };
    let Buffered { input, ahead, output } = connection.buffered();
    Ok(Some(PrivateClient {
        key,
        pending_reply: None,
        input: Some(pack(input)?),
        ahead: Some(pack(ahead)?),
        output: Some(pack(output)?),
    }))
}

fn unpack(from: PrivateClient, inherited: &mut InheritedFds) -> io::Result<Connection> {
    let mut unpack = |buffer: Option<Buffer>| {
        let Some(Buffer { bytes: bytes @ Some(_), fds }) = buffer else {
            return Ok(Side::default());
        };
        let fds = fds.into_iter().flatten().map(|fd| inherited.take(Some(fd)));
        let fds = fds.collect::<io::Result<_>>()?;
        Ok::<_, io::Error>(Side { bytes: inherited.take_bytes(bytes)?, fds })
    };
    let (input, ahead, output) = (unpack(from.input)?, unpack(from.ahead)?, unpack(from.output)?);
    Connection::restore(input, ahead, output).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
