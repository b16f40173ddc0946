//! One resource: a name in a lockspace, and who has leases on it. No I/O.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use common::sys::lock::{self, Kind};

use crate::error::lock::{Holders, Refusal};
use crate::ids::OwnerId;
use crate::lease::inode::Inode;
use crate::lease::job::Job;
use crate::lease::lock::Lease;
use crate::lockspace::action::{Action, Change, Step};
use crate::lockspace::holders::{Holding, Holdings};
use crate::owner::registration::Registration;
use crate::protocol::Terms;

/// A name in a lockspace.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) space: Arc<[u8]>,
    pub(crate) name: Arc<[u8]>,
    /// In the fd store.
    pub(crate) key: Option<u64>,
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Hold {
    lease: Lease,
    /// Those of the first who acquired it, whoever comes later.
    terms: Terms,
    holders: Holdings,
}

impl Resource {
    /// Nobody has a lease on it.
    pub(crate) fn new(space: Arc<[u8]>, name: Arc<[u8]>) -> Self {
        Self { space, name, key: None, hold: None }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Where its file is. libvirt joins lockspace and name, and checks neither.
    pub(crate) fn path(&self) -> Arc<Path> {
        path_of(&self.space, &self.name)
    }

    /// The locked file, if anybody has a lease.
    pub(crate) fn inode(&self) -> Option<Inode> {
        self.hold.as_ref().map(|hold| hold.lease.inode())
    }

    /// Those who have a lease.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &Holding> {
        self.hold.iter().flat_map(|hold| hold.holders.iter()).map(|(_, holding)| holding)
    }

    /// The lease, its terms and who has it, if anybody does.
    pub(crate) fn hold(
        &self,
    ) -> Option<(&Lease, Terms, impl Iterator<Item = (OwnerId, &Holding)>)> {
        let Hold { lease, terms, holders } = self.hold.as_ref()?;
        Some((lease, *terms, holders.iter()))
    }

    /// What there is of the lock; `None` without a lease.
    pub(crate) fn lock(&self) -> Option<lock::Hold> {
        self.hold.as_ref().map(|hold| hold.lease.lock().1)
    }

    /// There is so much of the lock.
    pub(crate) fn settled(&mut self, now: lock::Hold) {
        let before = self.lock();
        if let Some(hold) = &mut self.hold {
            hold.lease.settled(now);
        }
        if before.is_some_and(|before| before != now && !(before.is_whole() && now.is_whole())) {
            self.tell_of(now);
        }
    }

    fn tell_of(&self, lock: lock::Hold) {
        let (path, holders) = (self.path(), Holders::new(self.holders()));
        let path = path.display();
        match lock {
            lock::Hold::Whole(_) => tracing::warn!(
                target: "util.lockspace", "The lease on {path} is whole again: {holders}"
            ),
            lock::Hold::Shared(_) => tracing::error!(
                target: "util.lockspace",
                "The lease on {path} is not exclusive: a process that is no client of this daemon \
                 shares it. Its disk is at risk, it is tried again without end: {holders}"
            ),
            lock::Hold::Nothing => tracing::error!(
                target: "util.lockspace",
                "The lease on {path} is lost: a process that is no client of this daemon has locked \
                 the file. Its disk is at risk, it is tried again without end: {holders}"
            ),
        }
    }

    /// It was locked by an earlier image of this process.
    pub(crate) fn adopt(&mut self, lease: Lease, terms: Terms, holders: Holdings) {
        self.hold = Some(Hold { lease, terms, holders });
    }

    /// Begins an action.
    pub(crate) fn begin(&mut self, action: &Action) -> Step {
        match action {
            Action::Create if self.is_held() => Step::Ended(Err(self.locked())),
            Action::Delete if self.is_held() => Step::Ended(Err(self.locked())),
            Action::Create => Step::Job(Change::None, Job::Create { path: self.path() }),
            Action::Delete => Step::Job(Change::None, Job::Delete { path: self.path() }),
            Action::Acquire(_, terms) => self.acquire(*terms),
            Action::Release(registration) => self.release(registration),
            Action::Disown(owner) => self.disown(*owner),
            Action::Settle { is_to_outlive } => self.settle(*is_to_outlive),
        }
    }

    /// The file is locked for the first who asked.
    pub(crate) fn acquired(
        &mut self,
        registration: &Registration,
        terms: Terms,
        lease: Lease,
    ) -> Change {
        let mut holders = Holdings::default();
        holders.insert(registration.owner, Holding::new(&registration.guest));
        self.hold = Some(Hold { lease, terms, holders });
        Change::Gained(registration.owner)
    }

    /// The file is locked for one more of those who share it.
    pub(crate) fn share(&mut self, registration: &Registration) -> Change {
        self.hold.as_mut().map_or(Change::None, |hold| hold.share(registration))
    }

    /// libvirt knows neither re-entrance nor a change of terms.
    fn acquire(&self, terms: Terms) -> Step {
        match &self.hold {
            None => Step::Job(Change::None, Job::Acquire { path: self.path(), terms }),
            Some(hold) if hold.terms.shared && terms.shared => {
                let (path, inode) = (self.path(), hold.lease.inode());
                Step::Job(Change::None, Job::Look { path, inode })
            }
            Some(_) => Step::Ended(Err(self.locked())),
        }
    }

    fn release(&mut self, registration: &Registration) -> Step {
        let Some(hold) = &mut self.hold else {
            return Step::Ended(Err(Refusal::NotLocked((*self.name).into())));
        };
        match hold.holders.get_mut(registration.owner) {
            None => Step::Ended(Err(Refusal::NotHolder {
                pid: registration.guest.pid,
                holders: Holders::new(self.holders()),
            })),
            Some(holding) if holding.shares > 1 => {
                holding.shares -= 1;
                Step::NOTHING
            }
            Some(_) => self.disown(registration.owner),
        }
    }

    /// The last owner takes the locked file out; from then on it is the job's.
    fn disown(&mut self, owner: OwnerId) -> Step {
        let Some(mut hold) = self.hold.take() else {
            return Step::NOTHING;
        };
        let had_it = hold.holders.remove(owner).is_some();
        if hold.holders.is_empty() {
            let job = Job::Release { lease: hold.lease, path: self.path(), terms: hold.terms };
            return Step::Job(Change::Lost(owner), job);
        }
        self.hold = Some(hold);
        if had_it { Step::Ended(Ok(Change::Lost(owner))) } else { Step::NOTHING }
    }

    /// An OFD lock is lost in no way.
    fn settle(&self, is_to_outlive: bool) -> Step {
        match &self.hold {
            Some(hold) if hold.lease.lock().1 != lock::Hold::Whole(Kind::Ofd) => {
                let (file, inode) = (hold.lease.file(), hold.lease.inode());
                let lease = (hold.terms.mode(), hold.lease.lock().1);
                Step::Job(Change::None, Job::Settle { file, inode, lease, is_to_outlive })
            }
            _ => Step::NOTHING,
        }
    }

    fn locked(&self) -> Refusal {
        Refusal::Locked { name: (*self.name).into(), holders: Holders::new(self.holders()) }
    }
}

impl Hold {
    fn share(&mut self, registration: &Registration) -> Change {
        match self.holders.get_mut(registration.owner) {
            Some(holding) => {
                holding.shares += 1;
                Change::None
            }
            None => {
                self.holders.insert(registration.owner, Holding::new(&registration.guest));
                Change::Gained(registration.owner)
            }
        }
    }
}

/// A resource's file.
pub(crate) fn path_of(space: &[u8], name: &[u8]) -> Arc<Path> {
    if space.is_empty() {
        return Path::new(OsStr::from_bytes(name)).into();
    }
    Path::new(OsStr::from_bytes(&[space, b"/", name].concat())).into()
}
