//! Locks of two hosts, as the server has them.

use std::collections::HashMap;
use std::io;

use nix::libc;
use tests::blocks::boot_time_ms;

use crate::wire::{self, Answer, Request};

const GETLK: u32 = 31;
const SETLK: u32 = 32;
const SETLKW: u32 = 33;

/// `fuse_init_out.flags`: locks are the server's.
const POSIX_LOCKS: u32 = 1 << 1;

/// A host that has the file system mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    First,
    Second,
}

/// A lock on a file. All are taken for locks on the same bytes.
#[derive(Debug, Clone, Copy)]
struct Lock {
    host: Host,
    owner: u64,
    handle: u64,
    is_shared: bool,
}

/// All locks, by file.
pub(crate) struct Locks {
    lease_ms: u64,
    /// Time at which the first host was heard last.
    heard_ms: u64,
    given_away: Option<u64>,
    locks: HashMap<u64, Vec<Lock>>,
}

impl Locks {
    pub(crate) fn new(lease_ms: u64) -> Self {
        Self { lease_ms, heard_ms: boot_time_ms(), given_away: None, locks: HashMap::new() }
    }

    /// Answers what concerns locks. Whatever the first host asks renews its lease, unless that has run
    /// out and a lock was given away.
    pub(crate) fn answer(
        &mut self,
        host: Host,
        request: &Request<'_>,
    ) -> Option<io::Result<Answer>> {
        if host == Host::First {
            self.heard_ms = boot_time_ms();
        }
        match request.opcode {
            wire::INIT => Some(Ok(Answer::init(POSIX_LOCKS))),
            SETLK | SETLKW => Some(self.set(host, request)),
            GETLK => Some(Ok(self.get(request))),
            // As on NFS, closing a file without changes waits for nobody.
            wire::FLUSH => Some(Err(io::Error::from_raw_os_error(libc::ENOSYS))),
            wire::RELEASE => {
                let handle = request.u64(0);
                let kept = |lock: &Lock| (lock.host, lock.handle) != (host, handle);
                self.locks.values_mut().for_each(|locks| locks.retain(kept));
                None
            }
            _ => None,
        }
    }

    /// Takes the time at which the first host was heard last before a lock of it was given away.
    pub(crate) fn take_given_away(&mut self) -> Option<u64> {
        self.given_away.take()
    }

    fn set(&mut self, host: Host, request: &Request<'_>) -> io::Result<Answer> {
        let (handle, owner) = (request.u64(0), request.u64(8));
        let kind = request.u32(32).cast_signed();
        let locks = self.locks.entry(request.node).or_default();
        let is_own = |lock: &Lock| (lock.host, lock.owner) == (host, owner);
        if kind == libc::F_UNLCK {
            locks.retain(|lock| !is_own(lock));
            return Ok(Answer::default());
        }
        if host == Host::Second && boot_time_ms() >= self.heard_ms + self.lease_ms {
            let count = locks.len();
            locks.retain(|lock| lock.host == Host::Second);
            self.given_away = (locks.len() < count).then_some(self.heard_ms);
        }
        let is_shared = kind == libc::F_RDLCK;
        if locks.iter().any(|lock| !(is_own(lock) || is_shared && lock.is_shared)) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        locks.retain(|lock| !is_own(lock));
        locks.push(Lock { host, owner, handle, is_shared });
        Ok(Answer::default())
    }

    fn get(&self, request: &Request<'_>) -> Answer {
        let owner = request.u64(8);
        let locks = self.locks.get(&request.node);
        let held = locks.is_some_and(|locks| locks.iter().any(|lock| lock.owner != owner));
        let kind = if held { libc::F_WRLCK } else { libc::F_UNLCK };
        Answer::default().u64(0).u64(0).u32(kind.cast_unsigned()).u32(0)
    }
}
