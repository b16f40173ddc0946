//! The two servers of a daemon, with their limits and clients.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;

use super::caller::ClientId;
use super::client::Client;
use super::held_bytes::HeldBytes;
use super::listener::Listener;
use super::token::Token;
use crate::admin;
use crate::event::{Interest, Reactor, Registered};
use crate::query::ServerCounters;
use crate::rpc::Program;
use crate::sys::{process, socket};

pub use crate::admin::Limits;

#[derive(Debug)]
pub(super) struct Servers {
    pub(super) main: Server,
    pub(super) admin: Server,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) programs: &'static [Program],
    pub(super) limits: Limits,
    /// Stored and reported only: there are no workers.
    pub(super) priority_workers: u32,
    pub(super) clients: BTreeMap<u64, Client>,
    listeners: Vec<Registered<Listener>>,
    pub(super) next_number: u64,
    /// Accepting is paused; a timer resumes it.
    pub(super) paused: bool,
    /// The limit was reached, and that was logged.
    was_full: bool,
    /// Bytes of its clients' messages.
    pub(super) held: HeldBytes,
    admitted: u64,
    /// Connections that were not admitted.
    refused: u64,
    /// Clients that were closed, other than for their own or an administrator's wish.
    pub(super) closed: u64,
    /// Times that the limit was reached.
    full: u64,
}

/// Result of an attempt to accept a connection.
pub(super) enum Accepted {
    /// A client was admitted or rejected.
    One,
    /// No connection is pending, or the server is full.
    None,
    /// The kernel has no descriptors or memory now; to be retried later.
    Pause(io::Error),
}

impl Servers {
    pub(super) fn get(&self, server: admin::Server) -> &Server {
        match server {
            admin::Server::Main => &self.main,
            admin::Server::Admin => &self.admin,
        }
    }

    pub(super) fn get_mut(&mut self, server: admin::Server) -> &mut Server {
        match server {
            admin::Server::Main => &mut self.main,
            admin::Server::Admin => &mut self.admin,
        }
    }

    pub(super) fn client(&mut self, id: ClientId) -> Option<&mut Client> {
        self.get_mut(id.server).clients.get_mut(&id.number)
    }

    pub(super) fn have_clients(&self) -> bool {
        !self.main.clients.is_empty() || !self.admin.clients.is_empty()
    }

    /// Returns whether any client waits for the end of a job.
    pub(super) fn have_calls_in_flight(&self) -> bool {
        self.main.clients.values().any(Client::has_call_in_flight)
    }
}

impl Server {
    pub(super) fn new(
        name: &'static str,
        programs: &'static [Program],
        limits: Limits,
        listeners: Vec<Listener>,
        token: impl Fn(u64) -> Token,
        reactor: &Reactor<Token>,
    ) -> io::Result<Self> {
        let listeners = (0..)
            .zip(listeners)
            .map(|(index, listener)| reactor.register(listener, token(index), Interest::Read))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            name,
            programs,
            limits,
            priority_workers: 0,
            clients: BTreeMap::new(),
            listeners,
            next_number: 1,
            paused: false,
            was_full: false,
            held: HeldBytes::default(),
            admitted: 0,
            refused: 0,
            closed: 0,
            full: 0,
        })
    }

    /// Returns the counts of its clients.
    pub(super) fn counters(&self) -> ServerCounters {
        ServerCounters {
            clients: self.clients.len() as u64,
            clients_max: self.limits.clients_max.into(),
            admitted: self.admitted,
            refused: self.refused,
            closed: self.closed,
            full: self.full,
        }
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().map(|listener| &**listener)
    }

    pub(super) fn listeners_count(&self) -> u64 {
        self.listeners.len() as u64
    }

    /// Accepts one connection, unless the server is full: then it stays in the kernel's queue.
    pub(super) fn accept(
        &mut self,
        index: u64,
        kind: admin::Server,
        reactor: &Reactor<Token>,
    ) -> Accepted {
        if self.paused || !self.has_room() {
            return Accepted::None;
        }
        let listener = usize::try_from(index).ok().and_then(|index| self.listeners.get(index));
        match listener.map(|listener| listener.accept()) {
            None => Accepted::None,
            Some(Ok(stream)) => {
                self.admit(stream, kind, reactor);
                Accepted::One
            }
            Some(Err(error)) => match error.kind() {
                io::ErrorKind::WouldBlock => Accepted::None,
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => Accepted::One,
                _ => Accepted::Pause(error),
            },
        }
    }

    /// Admits a client, or closes its connection without a byte. Either way a number is used up.
    fn admit(&mut self, stream: UnixStream, kind: admin::Server, reactor: &Reactor<Token>) {
        let id = ClientId { server: kind, number: self.next_number };
        self.next_number += 1;
        match admitted(id, stream, reactor) {
            Ok(client) => {
                self.admitted += 1;
                self.clients.insert(id.number, client);
            }
            Err(reason) => {
                self.refused += 1;
                tracing::error!(target: "rpc.netserver", "{reason}");
            }
        }
    }

    fn has_room(&mut self) -> bool {
        let count = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let full = count >= self.limits.clients_max;
        if full && !self.was_full {
            self.full += 1;
            tracing::warn!(
                target: "rpc.netserver",
                "{count} clients are connected to server {}, its limit; further ones wait until \
                 one leaves or the limit is raised", self.name
            );
        }
        // Logged again only after the server was half empty, not at each disconnect.
        self.was_full = full || (self.was_full && count > self.limits.clients_max / 2);
        !full
    }
}

/// Makes a client of a connection.
///
/// # Errors
/// The reason why its connection is closed.
fn admitted(id: ClientId, stream: UnixStream, reactor: &Reactor<Token>) -> Result<Client, String> {
    let peer = socket::peer(&stream)
        .map_err(|error| format!("Unable to get the peer of {id}: {error}"))?;
    if peer.uid != process::effective_uid() {
        let (pid, uid) = (peer.pid, peer.uid);
        return Err(format!("operation forbidden: Disallowing client {pid} with uid {uid}"));
    }
    let socket = reactor.register(stream, Token::Client(id), Interest::Read);
    let socket = socket.map_err(|error| format!("Unable to watch {id}: {error}"))?;
    tracing::debug!(target: "rpc.netserver", "{id} is pid {}", peer.pid);
    Ok(Client::new(id, peer, socket))
}
