//! Resource: a name in a lockspace, with its lease and the holders of that. No I/O.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use common::sys::file_id::FileId;
use common::sys::lock::{self, Kind};

use crate::audit;
use crate::error::lock::LockError;
use crate::ids::OwnerId;
use crate::lease::job::Job;
use crate::lease::lock::Lease;
use crate::lockspace::action::{Action, Begun, HolderChange};
use crate::lockspace::holders::{Holder, HolderSummary, Holders};
use crate::owner::registration::Registration;
use crate::protocol::Terms;

/// Name in a lockspace.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) space: Arc<[u8]>,
    pub(crate) name: Arc<[u8]>,
    /// Key of the lease in the fd store.
    pub(crate) key: Option<u64>,
    /// Doubt in the lease, on shared storage.
    pub(crate) doubt: Option<Doubt>,
    held: Option<HeldLease>,
}

/// Doubt in a lease on shared storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// There was a time in which it may have been lost, and another host may have had it.
    MayBeLost,
    /// It is lost.
    Lost,
}

#[derive(Debug)]
struct HeldLease {
    lease: Lease,
    /// Terms of the first holder.
    terms: Terms,
    holders: Holders,
}

impl Resource {
    /// Creates a resource without a lease.
    pub(crate) fn new(space: Arc<[u8]>, name: Arc<[u8]>) -> Self {
        Self { space, name, key: None, doubt: None, held: None }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Returns the path of the file. As in libvirt, lockspace and name are joined unchecked.
    pub(crate) fn path(&self) -> Arc<Path> {
        path_of(&self.space, &self.name)
    }

    /// Returns the leased file, if any.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        self.held.as_ref().map(|held| held.lease.file_id())
    }

    /// Returns the holders of the lease.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.held.iter().flat_map(|held| held.holders.iter()).map(|(_, holder)| holder)
    }

    /// Returns the lease, its terms and its holders, if there is one.
    pub(crate) fn held(&self) -> Option<(&Lease, Terms, impl Iterator<Item = (OwnerId, &Holder)>)> {
        let HeldLease { lease, terms, holders } = self.held.as_ref()?;
        Some((lease, *terms, holders.iter()))
    }

    /// Returns the holders above an owner, in their order.
    pub(crate) fn holders_above(&self, owner: OwnerId) -> impl Iterator<Item = (OwnerId, &Holder)> {
        self.held.iter().flat_map(move |held| held.holders.above(owner))
    }

    /// Returns what there is of the lock, or `None` without a lease.
    pub(crate) fn lock(&self) -> Option<lock::Hold> {
        self.held.as_ref().map(|held| held.lease.lock().1)
    }

    /// Sets what there is of the lock, and logs a change.
    pub(crate) fn set_lock(&mut self, now: lock::Hold) {
        let before = self.lock();
        if let Some(held) = &mut self.held {
            held.lease.set_lock(now);
        }
        if before.is_some_and(|before| before != now && !(before.is_whole() && now.is_whole())) {
            self.log_lock_change(now);
        }
    }

    fn log_lock_change(&self, lock: lock::Hold) {
        let (path, holders) = (self.path(), HolderSummary::new(self.holders()));
        match lock {
            lock::Hold::Whole(_) => {}
            lock::Hold::Shared(_) => audit::lost(&path, &holders, "it is not exclusive"),
            lock::Hold::Nothing => audit::lost(&path, &holders, "its file is locked by others"),
        }
        let path = path.display();
        match lock {
            lock::Hold::Whole(_) => tracing::warn!(
                target: "util.lockspace",
                LIBVIRT_LEASE_PATH = %path,
                LIBVIRT_HOLDER = %holders,
                "The lease on {path} has all of its lock again: {holders}"
            ),
            lock::Hold::Shared(_) => tracing::error!(
                target: "util.lockspace",
                LIBVIRT_LEASE_PATH = %path,
                LIBVIRT_HOLDER = %holders,
                "The lease on {path} is not exclusive: a process that is not a client of this daemon \
                 has a shared lock on it. The disk is at risk; retrying until it is exclusive: {holders}"
            ),
            lock::Hold::Nothing => tracing::error!(
                target: "util.lockspace",
                LIBVIRT_LEASE_PATH = %path,
                LIBVIRT_HOLDER = %holders,
                "The lease on {path} has lost its lock: a process that is not a client of this daemon \
                 has locked the file. The disk is at risk; retrying until it is locked: {holders}"
            ),
        }
    }

    /// Sets a lease that an earlier process has acquired.
    pub(crate) fn adopt(&mut self, lease: Lease, terms: Terms, holders: Holders) {
        self.held = Some(HeldLease { lease, terms, holders });
    }

    /// Begins an action.
    pub(crate) fn begin(&mut self, action: &Action) -> Begun {
        match action {
            Action::Create if self.is_held() => Begun::Finished(Err(self.locked())),
            Action::Delete if self.is_held() => Begun::Finished(Err(self.locked())),
            Action::Create => Begun::Job(HolderChange::None, Job::Create { path: self.path() }),
            Action::Delete => Begun::Job(HolderChange::None, Job::Delete { path: self.path() }),
            Action::Acquire(_, terms) => self.acquire(*terms),
            Action::Release(registration) => self.release(registration),
            Action::ReleaseAll(owner) => self.release_all(*owner),
            Action::CheckLock { convert_to_ofd } => self.check_lock(*convert_to_ofd),
            Action::TestLock => self.test_lock(),
        }
    }

    /// Sets the lease that its first holder has acquired.
    pub(crate) fn acquired(
        &mut self,
        registration: &Registration,
        terms: Terms,
        lease: Lease,
    ) -> HolderChange {
        let mut holders = Holders::default();
        holders.insert(registration.owner, Holder::new(&registration.guest));
        self.doubt = None;
        self.held = Some(HeldLease { lease, terms, holders });
        HolderChange::Gained(registration.owner)
    }

    /// Adds a holder to a shared lease.
    pub(crate) fn share(&mut self, registration: &Registration) -> HolderChange {
        self.held.as_mut().map_or(HolderChange::None, |held| held.share(registration))
    }

    /// Begins to acquire a lease. As in libvirt, an owner cannot acquire an exclusive lease again,
    /// nor change the terms.
    fn acquire(&self, terms: Terms) -> Begun {
        match &self.held {
            None => Begun::Job(HolderChange::None, Job::Acquire { path: self.path(), terms }),
            Some(held) if held.terms.shared && terms.shared => {
                let (path, file_id) = (self.path(), held.lease.file_id());
                Begun::Job(HolderChange::None, Job::CheckPath { path, file_id })
            }
            Some(_) => Begun::Finished(Err(self.locked())),
        }
    }

    fn release(&mut self, registration: &Registration) -> Begun {
        let Some(held) = &mut self.held else {
            return Begun::Finished(Err(LockError::NotLocked((*self.name).into())));
        };
        match held.holders.get_mut(registration.owner) {
            None => Begun::Finished(Err(LockError::NotHolder {
                pid: registration.guest.pid,
                holders: HolderSummary::new(self.holders()),
            })),
            Some(holder) if holder.shares > 1 => {
                holder.shares -= 1;
                Begun::NOTHING
            }
            Some(_) => self.release_all(registration.owner),
        }
    }

    /// Removes a holder. With the last one the lease goes to the job that releases it.
    fn release_all(&mut self, owner: OwnerId) -> Begun {
        let Some(mut held) = self.held.take() else {
            return Begun::NOTHING;
        };
        let had_it = held.holders.remove(owner).is_some();
        if held.holders.is_empty() {
            let job = Job::Release { lease: held.lease, path: self.path(), terms: held.terms };
            return Begun::Job(HolderChange::Lost(owner), job);
        }
        self.held = Some(held);
        if had_it { Begun::Finished(Ok(HolderChange::Lost(owner))) } else { Begun::NOTHING }
    }

    /// Begins to check the lock. A whole OFD lock cannot be lost.
    fn check_lock(&self, convert_to_ofd: bool) -> Begun {
        match &self.held {
            Some(held) if held.lease.lock().1 != lock::Hold::Whole(Kind::Ofd) => {
                let (file, file_id) = (held.lease.file(), held.lease.file_id());
                let lease = (held.terms.mode(), held.lease.lock().1);
                Begun::Job(
                    HolderChange::None,
                    Job::CheckLock { file, file_id, lease, convert_to_ofd },
                )
            }
            _ => Begun::NOTHING,
        }
    }

    fn test_lock(&self) -> Begun {
        let Some(HeldLease { lease, .. }) = &self.held else { return Begun::NOTHING };
        let (file, file_id) = (lease.file(), lease.file_id());
        Begun::Job(HolderChange::None, Job::TestLock { file, file_id })
    }

    /// Takes the result of a test of the lock. An empty file does not tell.
    pub(crate) fn lock_tested(&mut self, result: io::Result<usize>) {
        let (path, holders) = (self.path(), HolderSummary::new(self.holders()));
        let shown = path.display();
        match result {
            Ok(0) => {}
            Ok(_) => {
                self.doubt = None;
                tracing::warn!(
                    target: "util.lockspace",
                    LIBVIRT_LEASE_PATH = %shown,
                    LIBVIRT_HOLDER = %holders,
                    "The lease on {shown} is held: the kernel still reads its file: {holders}"
                );
            }
            Err(error) => {
                self.doubt = Some(Doubt::Lost);
                audit::lost(&path, &holders, "the kernel has lost its lock");
                tracing::error!(
                    target: "util.lockspace",
                    LIBVIRT_LEASE_PATH = %shown,
                    LIBVIRT_HOLDER = %holders,
                    "The lease on {shown} is lost: the kernel reads its file no more ({error}). Another host \
                     may have the disk: {holders}"
                );
            }
        }
    }

    fn locked(&self) -> LockError {
        LockError::Locked { name: (*self.name).into(), holders: HolderSummary::new(self.holders()) }
    }
}

impl HeldLease {
    fn share(&mut self, registration: &Registration) -> HolderChange {
        match self.holders.get_mut(registration.owner) {
            Some(holder) => {
                holder.shares += 1;
                HolderChange::None
            }
            None => {
                self.holders.insert(registration.owner, Holder::new(&registration.guest));
                HolderChange::Gained(registration.owner)
            }
        }
    }
}

/// Returns the path of a resource's file.
pub(crate) fn path_of(space: &[u8], name: &[u8]) -> Arc<Path> {
    if space.is_empty() {
        return Path::new(OsStr::from_bytes(name)).into();
    }
    Path::new(OsStr::from_bytes(&[space, b"/", name].concat())).into()
}
