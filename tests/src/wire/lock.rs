//! The lock program's eight procedures.

use std::io;
use std::path::Path;

use super::{Connection, LOCK_PROGRAM, RpcError, Writer};

/// ACQUIRE's flag for a lease that others may share (libvirt's value, on the wire).
pub const ACQUIRE_SHARED: u32 = 1;
/// ACQUIRE's flag that makes the file and removes it at the last release (libvirt's value).
pub const ACQUIRE_AUTOCREATE: u32 = 2;

/// Whom a connection's leases belong to.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The guest's UUID.
    pub uuid: [u8; 16],
    /// The guest's name.
    pub name: String,
    /// The guest's number, not 0.
    pub id: u32,
    /// The process that holds the leases.
    pub pid: u32,
}

impl Owner {
    /// A guest that is the process `pid`.
    pub fn of(pid: u32) -> Self {
        Self { uuid: [0x5a; 16], name: "guest".to_owned(), id: 1, pid }
    }
}

/// A connection that speaks the lock program. Every reply of it has an empty payload.
#[derive(Debug)]
pub struct LockClient(Connection);

impl LockClient {
    /// Connects to a virtlockd's main socket.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Connection::open(socket).map(Self)
    }

    /// The connection underneath.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.0
    }

    /// REGISTER: says whom the leases are for.
    pub fn register(&mut self, owner: &Owner, flags: u32) -> Result<(), RpcError> {
        self.call(1, registration(owner, flags))
    }

    /// [`Self::register`] with a daemon that may be killed meanwhile.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn try_register(&mut self, owner: &Owner) -> io::Result<Result<(), RpcError>> {
        self.try_call(1, registration(owner, 0))
    }

    /// [`Self::acquire`] from a daemon that may be killed meanwhile.
    ///
    /// # Errors
    /// The connection is lost; nobody knows whether the lease is taken.
    pub fn try_acquire(&mut self, name: &str) -> io::Result<Result<(), RpcError>> {
        self.try_call(6, resource("", name, 0))
    }

    /// [`Self::release`] to a daemon that may be killed meanwhile.
    ///
    /// # Errors
    /// The connection is lost; nobody knows whether the lease is given back.
    pub fn try_release(&mut self, name: &str) -> io::Result<Result<(), RpcError>> {
        self.try_call(7, resource("", name, 0))
    }

    /// RESTRICT: gives up every right of the connection.
    pub fn restrict(&mut self, flags: u32) -> Result<(), RpcError> {
        self.call(2, Writer::new().u32(flags))
    }

    /// NEW: adds a lockspace for an owner.
    pub fn new_lockspace(&mut self, space: &str, flags: u32) -> Result<(), RpcError> {
        self.call(3, Writer::new().string(space).u32(flags))
    }

    /// `CREATE_RESOURCE`: makes a resource's file.
    pub fn create(&mut self, space: &str, name: &str, flags: u32) -> Result<(), RpcError> {
        self.call(4, resource(space, name, flags))
    }

    /// `DELETE_RESOURCE`: removes a resource's file.
    pub fn delete(&mut self, space: &str, name: &str, flags: u32) -> Result<(), RpcError> {
        self.call(5, resource(space, name, flags))
    }

    /// `ACQUIRE_RESOURCE`: takes a lease. A lockspace may be any bytes.
    pub fn acquire(
        &mut self,
        space: impl AsRef<[u8]>,
        name: &str,
        flags: u32,
    ) -> Result<(), RpcError> {
        self.call(6, resource(space, name, flags))
    }

    /// `RELEASE_RESOURCE`: gives a lease back.
    pub fn release(
        &mut self,
        space: impl AsRef<[u8]>,
        name: &str,
        flags: u32,
    ) -> Result<(), RpcError> {
        self.call(7, resource(space, name, flags))
    }

    /// `CREATE_LOCKSPACE`: adds a lockspace; the one call without flags.
    pub fn create_lockspace(&mut self, space: impl AsRef<[u8]>) -> Result<(), RpcError> {
        self.call(8, Writer::new().string(space))
    }

    /// Any of them, with arguments that are no text.
    pub fn call(&mut self, procedure: i32, payload: Writer) -> Result<(), RpcError> {
        self.try_call(procedure, payload).expect("every call is answered")
    }

    fn try_call(&mut self, procedure: i32, payload: Writer) -> io::Result<Result<(), RpcError>> {
        let answer = self.0.try_call(LOCK_PROGRAM, procedure, &payload.into_bytes())?;
        Ok(answer.map(|(payload, _)| {
            assert!(payload.is_empty(), "a reply of the lock program has no payload");
        }))
    }
}

fn registration(owner: &Owner, flags: u32) -> Writer {
    Writer::new().fixed(&owner.uuid).string(&owner.name).u32(owner.id).u32(owner.pid).u32(flags)
}

fn resource(space: impl AsRef<[u8]>, name: &str, flags: u32) -> Writer {
    Writer::new().string(space).string(name).u32(flags)
}
