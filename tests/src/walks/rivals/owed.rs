//! What is owed for each thing that is done: the answer, the kernel's locks, the files, and who must
//! end. Nothing in here does anything.
//!
//! libvirt's daemon and ours differ in three things. Its owners are numbers, ours are processes. Its
//! locks are the process's, so they go when any fd of the file is closed, and do not keep its own
//! clients apart; ours are each lease's. It gives leases back before it ends a guest, we do so after.

use std::collections::{BTreeMap, BTreeSet};

use nix::libc;

use super::kernel::{Holder, Kernel, Mode};
use super::names::Name;
use crate::harness::Whose;
use crate::walks::locks::File;

/// A process that leases are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// Which one it is of all that ever had the pid; `None` when it has ended.
    pub(super) process: Option<u64>,
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) shared: bool,
    pub(super) automatic: bool,
}

/// What a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// This code of libvirt's.
    Refused(i32),
    /// This errno.
    Failed(i32),
}

/// Internal error: no such lockspace, or somebody else's lease.
const INTERNAL: Answer = Answer::Refused(1);

/// Resource busy: it is leased, or it is not.
const BUSY: Answer = Answer::Refused(87);

#[derive(Debug, Clone)]
struct Lease {
    file: File,
    terms: Terms,
    /// As often as they have it.
    owners: Vec<Owner>,
}

/// All that a daemon has promised.
#[derive(Debug, Clone)]
pub(super) struct Model {
    whose: Whose,
    /// What it has outlives its process.
    is_kept: bool,
    pub(super) spaces: BTreeSet<String>,
    leases: BTreeMap<Name, Lease>,
    pub(super) kernel: Kernel,
    /// Where names lead to, as was last seen.
    pub(super) seen: BTreeMap<Name, Option<File>>,
    /// Names that there must be no more.
    pub(super) gone: BTreeSet<Name>,
}

impl Model {
    pub(super) fn new(whose: Whose, is_kept: bool) -> Self {
        Self {
            whose,
            is_kept,
            spaces: BTreeSet::from([String::new()]),
            leases: BTreeMap::new(),
            kernel: Kernel::default(),
            seen: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.whose == Whose::Ours
    }

    /// ACQUIRE. `made` is the file that is there now, if the daemon may have made it.
    pub(super) fn acquire(
        &mut self,
        name: &Name,
        terms: Terms,
        owner: Owner,
        made: Option<File>,
    ) -> Answer {
        if !self.spaces.contains(&name.space) {
            return INTERNAL;
        }
        let at = self.at(name);
        if let Some(lease) = self.leases.get_mut(name) {
            let is_it = self.whose == Whose::Theirs || at == Some(lease.file);
            if !(lease.terms.shared && terms.shared && is_it) {
                return BUSY;
            }
            lease.owners.push(owner);
            self.gained(owner);
            return Answer::Done;
        }
        let Some(file) = at.or(made.filter(|_| terms.automatic)) else {
            // One that was made for the dead has gone already.
            let is_brief = terms.automatic && self.is_dead(owner);
            return if is_brief { Answer::Done } else { Answer::Failed(libc::ENOENT) };
        };
        let mode = if terms.shared { Mode::Shared } else { Mode::Exclusive };
        let holder = self.holder(name);
        let may_open = !self.is_ours() || !self.is_untouchable(file);
        if !may_open || !self.kernel.try_lock(file, &holder, mode) {
            self.closes(file);
            return BUSY;
        }
        self.leases.insert(name.clone(), Lease { file, terms, owners: vec![owner] });
        self.gained(owner);
        Answer::Done
    }

    /// RELEASE.
    pub(super) fn release(&mut self, name: &Name, owner: Owner) -> Answer {
        if !self.spaces.contains(&name.space) {
            return INTERNAL;
        }
        let is_ours = self.is_ours();
        let Some(lease) = self.leases.get_mut(name) else { return BUSY };
        let its = lease.owners.iter().position(|&it| is_same(is_ours, it, owner));
        let Some(index) = its else {
            return INTERNAL;
        };
        lease.owners.swap_remove(index);
        self.let_go_unless_held(name);
        Answer::Done
    }

    /// `CREATE_RESOURCE`.
    pub(super) fn create(&mut self, name: &Name) -> Answer {
        if !self.spaces.contains(&name.space) {
            return INTERNAL;
        }
        if self.leases.contains_key(name) {
            return BUSY;
        }
        self.at(name).into_iter().for_each(|file| self.closes(file));
        self.gone.remove(name);
        Answer::Done
    }

    /// `DELETE_RESOURCE`.
    pub(super) fn delete(&mut self, name: &Name) -> Answer {
        if !self.spaces.contains(&name.space) {
            return INTERNAL;
        }
        let is_held = self.leases.contains_key(name);
        let is_wanted = |file| {
            !self.kernel.can_lock(file, &Holder::Lease(name.clone()), Mode::Exclusive)
                || self.is_untouchable(file)
        };
        if is_held || (self.is_ours() && self.at(name).is_some_and(is_wanted)) {
            return BUSY;
        }
        self.gone.insert(name.clone());
        Answer::Done
    }

    /// An owner's own connection is closed for good. Gives whether whoever has its pid must end.
    pub(super) fn connection_closes(&mut self, owner: Owner) -> bool {
        if self.is_ours() {
            return owner.process.is_some() && self.has_leases(owner);
        }
        let held: Vec<_> = self.leases_of(owner).collect();
        self.in_any_order(&held, |model, name| {
            model.release(name, owner);
        });
        !held.is_empty()
    }

    /// A process has ended.
    pub(super) fn ended(&mut self, owner: Owner) {
        if self.is_ours() {
            self.disown(|it| it == owner);
        }
    }

    /// The daemon stops, with these connections of owners. Gives who must end.
    pub(super) fn stops(&mut self, connections: &[Owner]) -> Vec<Owner> {
        if self.is_kept {
            if self.leases.is_empty() {
                self.spaces.retain(String::is_empty);
            }
            return Vec::new();
        }
        let ended = connections.iter().copied().filter(|&owner| self.connection_closes(owner));
        let ended = ended.collect();
        let names: Vec<_> = self.leases.keys().cloned().collect();
        self.in_any_order(&names, Self::let_go);
        self.dies();
        ended
    }

    /// The daemon's process is killed.
    pub(super) fn dies(&mut self) {
        if !self.is_kept {
            self.leases.clear();
            self.kernel.daemon_ends();
            self.spaces.retain(String::is_empty);
        }
    }

    /// A daemon goes on in its place, or in the same process; `living` says who has a pid, as far as
    /// a successor of libvirt's can tell.
    pub(super) fn goes_on(&mut self, whose: Whose, living: impl Fn(u32) -> Owner) {
        let before = std::mem::replace(&mut self.whose, whose);
        if whose == Whose::Theirs {
            return;
        }
        if before == Whose::Theirs {
            self.leases.values_mut().flat_map(|lease| &mut lease.owners).for_each(|owner| {
                *owner = living(owner.pid);
            });
            // That ours locked them is found out later, so their files may stay.
            let is_ours = |(name, lease): &(&Name, &Lease)| {
                self.kernel.lock(lease.file, &Holder::Lease((*name).clone())).is_some()
            };
            let ours = self.leases.iter().filter(is_ours).map(|(name, _)| name.clone());
            let ours: Vec<_> = ours.collect();
            self.disown(|owner| owner.process.is_none());
            self.gone.retain(|name| !ours.contains(name));
        }
        let files = self.leases.values().map(|lease| lease.file).collect();
        self.settle(files);
    }

    /// Somebody has given up a lock, which ours may have lacked.
    pub(super) fn settle_lacking(&mut self) {
        if self.is_ours() {
            let lacking = self.leases.iter().filter(|(name, _)| !self.is_whole_somehow(name));
            let files = lacking.map(|(_, lease)| lease.file).collect();
            self.settle(files);
        }
    }

    /// Whether there must be a lock of the daemon's, and how strong it is.
    pub(super) fn lock(&self, file: File) -> Option<Mode> {
        self.kernel.daemons(file)
    }

    /// All that are leased, with their owners.
    pub(super) fn held(&self) -> Vec<(Name, Vec<Owner>)> {
        self.leases.iter().map(|(name, lease)| (name.clone(), lease.owners.clone())).collect()
    }

    /// All that are leased, for people.
    pub(super) fn describe(&self) -> String {
        let line = |(name, lease): (&Name, &Lease)| {
            let Lease { file, terms, owners } = lease;
            let own = self.kernel.lock(*file, &Holder::Lease(name.clone()));
            let process = self.kernel.lock(*file, &Holder::Process);
            let whose = self.whose;
            format!("  {name:?} {file:?} {terms:?} of {owners:?}: {own:?}, {whose:?} {process:?}\n")
        };
        self.leases.iter().map(line).collect()
    }

    /// Whether an owner has any lease.
    pub(super) fn has_leases(&self, owner: Owner) -> bool {
        self.leases_of(owner).next().is_some()
    }
}

impl Model {
    /// Ours takes what its locks of these files lack, and makes of libvirt's what it can.
    fn settle(&mut self, files: BTreeSet<File>) {
        for file in files {
            let process = Holder::Process;
            let names: Vec<Name> =
                self.names_of(file).filter(|name| !self.is_whole(name)).collect();
            let is_alone = |name: &Name| !self.leases[name].terms.shared;
            if names.len() > 1 && names.iter().any(is_alone) {
                let modes = [Mode::Exclusive, Mode::Shared];
                modes.iter().any(|&mode| self.kernel.try_lock(file, &process, mode));
                continue;
            }
            names.iter().for_each(|name| self.settle_one(name, names.len() == 1));
            self.forget_process(file);
        }
    }

    fn settle_one(&mut self, name: &Name, is_only_one: bool) {
        let Lease { file, terms, .. } = self.leases[name];
        let mode = if terms.shared { Mode::Shared } else { Mode::Exclusive };
        let (process, own) = (Holder::Process, Holder::Lease(name.clone()));
        if self.kernel.try_lock(file, &own, mode) {
            return;
        }
        if self.kernel.try_lock(file, &process, mode) {
            if mode == Mode::Shared {
                self.kernel.try_lock(file, &own, mode);
            } else if self.is_kept && is_only_one {
                self.kernel.unlock(file, &process);
                self.kernel.try_lock(file, &own, mode);
            }
        } else if mode == Mode::Exclusive {
            self.kernel.try_lock(file, &own, Mode::Shared);
        }
    }

    fn holder(&self, name: &Name) -> Holder {
        if self.is_ours() { Holder::Lease(name.clone()) } else { Holder::Process }
    }

    fn at(&self, name: &Name) -> Option<File> {
        self.seen.get(name).copied().flatten()
    }

    fn names_of(&self, file: File) -> impl Iterator<Item = Name> {
        let its = self.leases.iter().filter(move |(_, lease)| lease.file == file);
        its.map(|(name, _)| name.clone())
    }

    fn leases_of(&self, owner: Owner) -> impl Iterator<Item = Name> {
        let is_ours = self.is_ours();
        let has = move |lease: &Lease| lease.owners.iter().any(|&it| is_same(is_ours, it, owner));
        let its = self.leases.iter().filter(move |(_, lease)| has(lease));
        its.map(|(name, _)| name.clone())
    }

    fn is_dead(&self, owner: Owner) -> bool {
        self.is_ours() && owner.process.is_none()
    }

    /// Who has ended keeps nothing.
    fn gained(&mut self, owner: Owner) {
        if self.is_dead(owner) {
            self.disown(|it| it == owner);
        }
    }

    fn disown(&mut self, is_it: impl Fn(Owner) -> bool) {
        let has = |lease: &Lease| lease.owners.iter().any(|&owner| is_it(owner));
        let its = self.leases.iter().filter(|(_, lease)| has(lease));
        let names: Vec<_> = its.map(|(name, _)| name.clone()).collect();
        self.in_any_order(&names, |model, name| {
            let lease = model.leases.get_mut(name);
            lease.into_iter().for_each(|lease| lease.owners.retain(|&owner| !is_it(owner)));
            model.let_go_unless_held(name);
        });
    }

    /// Of several names of one file the last one may be removed, and nobody knows which that is.
    fn in_any_order(&mut self, names: &[Name], let_go: impl Fn(&mut Self, &Name)) {
        let file_of = |model: &Self, name: &Name| model.leases.get(name).map(|lease| lease.file);
        let files: Vec<_> = names.iter().map(|name| file_of(self, name)).collect();
        names.iter().for_each(|name| let_go(self, name));
        for (name, file) in names.iter().zip(&files) {
            if files.iter().filter(|&other| other == file).count() > 1 {
                self.gone.remove(name);
            }
        }
    }

    fn let_go_unless_held(&mut self, name: &Name) {
        if self.leases.get(name).is_some_and(|lease| lease.owners.is_empty()) {
            self.let_go(name);
        }
    }

    /// A file that was made automatically goes, unless somebody shares it.
    fn let_go(&mut self, name: &Name) {
        let is_whole = self.is_whole_somehow(name);
        let Some(Lease { file, terms, .. }) = self.leases.get(name).cloned() else { return };
        let own = Holder::Lease(name.clone());
        let has_own = self.kernel.lock(file, &own).is_some();
        let holder = if self.is_ours() && has_own { &own } else { &Holder::Process };
        let is_sure = !terms.shared && (is_whole || !self.is_ours());
        let is_one_for_all = self.is_ours()
            && !has_own
            && self.names_of(file).any(|other| other != *name && !self.is_whole(&other));
        let can_be_exclusive = self.kernel.can_lock(file, holder, Mode::Exclusive);
        let is_last = is_sure || (can_be_exclusive && !is_one_for_all);
        let is_there = !self.is_ours() || self.at(name) == Some(file);
        if terms.automatic && is_last && is_there {
            self.gone.insert(name.clone());
        }
        self.leases.remove(name);
        self.kernel.unlock(file, &own);
        if self.is_ours() {
            self.forget_process(file);
        } else {
            self.closes(file);
        }
    }

    /// An fd of a file is closed, which costs libvirt's daemon its lock.
    fn closes(&mut self, file: File) {
        if !self.is_ours() {
            self.kernel.unlock(file, &Holder::Process);
        }
    }

    /// The process's lock of a file goes when no lease needs it.
    fn forget_process(&mut self, file: File) {
        let needs = |name: &Name| self.kernel.lock(file, &Holder::Lease(name.clone())).is_none();
        if !self.names_of(file).any(|name| needs(&name)) {
            self.kernel.unlock(file, &Holder::Process);
        }
    }

    /// Has all of its lock for itself.
    fn is_whole(&self, name: &Name) -> bool {
        let Lease { file, terms, .. } = &self.leases[name];
        let own = self.kernel.lock(*file, &Holder::Lease(name.clone()));
        own.is_some_and(|mode| terms.shared || mode == Mode::Exclusive)
    }

    fn is_whole_somehow(&self, name: &Name) -> bool {
        let of_process = |lease: &Lease| self.kernel.lock(lease.file, &Holder::Process);
        self.leases.get(name).is_some_and(|lease| {
            let of_process = of_process(lease);
            let is_enough = |mode| lease.terms.shared || mode == Mode::Exclusive;
            self.is_whole(name) || of_process.is_some_and(is_enough)
        })
    }

    /// A file with a lease whose lock an open and close could cost, or that has not all of its lock.
    fn is_untouchable(&self, file: File) -> bool {
        self.names_of(file).any(|name| !self.is_whole(&name))
    }
}

/// libvirt's daemon knows numbers, ours processes.
fn is_same(is_ours: bool, one: Owner, other: Owner) -> bool {
    one.pid == other.pid && (!is_ours || one.process == other.process)
}
