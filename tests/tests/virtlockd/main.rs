//! virtlockd as its clients see it. The same tests run against libvirt's daemon and ours.

mod aliases;
mod calls;
mod contention;
mod devices;
mod fcntl_leases;
mod files;
mod gluster;
mod guests;
mod hang;
mod leases;
mod load;
mod namespaces;
mod outside;
mod owners;
mod pair;
mod pid_file;
mod shared;

use std::fs::{self, File};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tests::guest::{NOBODY, owner};
use tests::harness::Daemon;
use tests::wire::{LockClient, RpcError};

/// Another pid that no process has.
const SOMEBODY_ELSE: u32 = NOBODY + 1;

/// A connection registered for the owner with this pid.
fn client_of(daemon: &Daemon, pid: u32) -> LockClient {
    let mut client = daemon.lock_client();
    client.register(&owner(pid), 0).expect("registering");
    client
}

/// A file to take leases on, empty; its name as a resource.
fn image(daemon: &Daemon, name: &str) -> String {
    let path = daemon.file(name);
    fs::write(&path, "").expect("making a file");
    text(&path)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A kind of lock that a stranger takes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Posix,
    Ofd,
}

/// Tries to lock one byte of a file without waiting; `lock_type` as in fcntl(2).
fn try_lock(file: &File, kind: Kind, lock_type: i32, byte: i64) -> bool {
    let range = one_byte(lock_type, byte);
    let command = match kind {
        Kind::Posix => FcntlArg::F_SETLK(&range),
        Kind::Ofd => FcntlArg::F_OFD_SETLK(&range),
    };
    match fcntl(file, command) {
        Ok(_) => true,
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => false,
        Err(error) => panic!("locking: {error}"),
    }
}

/// A lock of `lock_type` on one byte, for `fcntl`.
fn one_byte(lock_type: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: lock_type.try_into().expect("a lock type is small"),
        l_whence: 0,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

fn open(path: &str) -> File {
    File::options().read(true).write(true).open(path).expect("opening a file")
}

/// Whether somebody else has a lease on the file. Asks and does not try: an ACQUIRE that comes
/// meanwhile would be refused.
fn is_leased(path: &str) -> bool {
    let mut lock = one_byte(libc::F_WRLCK, 0);
    fcntl(open(path), FcntlArg::F_OFD_GETLK(&mut lock)).expect("asking for a lock");
    i32::from(lock.l_type) != libc::F_UNLCK
}

/// Code 87: somebody has it.
fn locked(name: &str) -> RpcError {
    RpcError::templated(
        87,
        51,
        "resource busy: ",
        &format!("Lockspace resource '{name}' is locked"),
    )
}

/// Code 87: nobody has it.
fn not_locked(name: &str) -> RpcError {
    RpcError::templated(
        87,
        51,
        "resource busy: ",
        &format!("Lockspace resource '{name}' is not locked"),
    )
}

/// Code 1: somebody else has it.
fn not_holder(pid: u32) -> RpcError {
    RpcError::templated(
        1,
        51,
        "internal error: ",
        &format!("owner {pid} does not hold the resource lock"),
    )
}

/// Code 1: no such lockspace.
fn no_lockspace(path: &str) -> RpcError {
    RpcError::templated(
        1,
        7,
        "internal error: ",
        &format!("Lockspace for path {path} does not exist"),
    )
}

/// Code 29.
fn restricted() -> RpcError {
    RpcError::templated(
        29,
        7,
        "operation forbidden: ",
        "lock manager connection has been restricted",
    )
}

/// Code 55.
fn unregistered() -> RpcError {
    RpcError::templated(
        55,
        7,
        "Requested operation is not valid: ",
        "lock owner details have not been registered",
    )
}
