//! Lockspaces and their resources: by name, and those that are locked by file too. No I/O; what
//! touches files is handed out as jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use common::sys::lock::Hold;

use crate::error::file::Failure;
use crate::error::lock::{Holders, Refusal};
use crate::ids::ResourceId;
use crate::lease::inode::Inode;
use crate::lease::job::Done;
use crate::lease::lock::Lease;
use crate::lockspace::action::{Action, Change, Step};
use crate::lockspace::holders::Holdings;
use crate::lockspace::resource::{Resource, path_of};
use crate::protocol::Terms;

/// Lockspaces beside the default one. Ours; anybody who may connect can add some, and they are
/// never removed.
const LOCKSPACES_MAX: usize = 4096;

/// Resources that are locked or worked on. libvirt's limit of open files in its unit, which is
/// what limits it there.
const RESOURCES_MAX: usize = 524_288;

#[derive(Debug)]
struct Space {
    path: Arc<[u8]>,
    names: HashMap<Arc<[u8]>, ResourceId>,
}

/// All of them. A lockspace is known by its path as it was first given, letter by letter: `/a`
/// and `/a/` are two.
#[derive(Debug)]
pub(crate) struct Lockspaces {
    spaces: HashMap<Arc<[u8]>, Space>,
    /// In the order in which they were made, and so in memory: all of them are gone through at an
    /// upgrade.
    resources: BTreeMap<ResourceId, Resource>,
    /// Names of locked files. Only for telling people who has a file.
    by_inode: BTreeSet<(Inode, ResourceId)>,
    resources_made: u64,
}

impl Lockspaces {
    /// Only the default lockspace, whose path is empty.
    pub(crate) fn new() -> Self {
        let default: Arc<[u8]> = Arc::default();
        Self {
            spaces: HashMap::from([(Arc::clone(&default), Space::new(default))]),
            resources: BTreeMap::new(),
            by_inode: BTreeSet::new(),
            resources_made: 0,
        }
    }

    /// Whether no resource is locked or worked on.
    pub(crate) fn are_unused(&self) -> bool {
        self.resources.is_empty()
    }

    /// Whether there is a lockspace with this path.
    pub(crate) fn has_space(&self, space: &[u8]) -> bool {
        self.spaces.contains_key(space)
    }

    /// Where the file of a resource is.
    pub(crate) fn path(&self, id: ResourceId) -> Option<Arc<Path>> {
        self.resources.get(&id).map(Resource::path)
    }

    /// Adds a lockspace, whose directory is there, unless it is known.
    pub(crate) fn add_space(&mut self, space: &[u8]) -> Result<(), Refusal> {
        if self.has_space(space) {
            return Ok(());
        }
        if self.spaces.len() > LOCKSPACES_MAX {
            return Err(Refusal::TooManyLockspaces);
        }
        self.adopt_space(space);
        Ok(())
    }

    /// Adds a lockspace of an earlier image of this process, however many there are: its leases have
    /// to be given back by somebody.
    pub(crate) fn adopt_space(&mut self, space: &[u8]) {
        if !self.has_space(space) {
            let space: Arc<[u8]> = space.into();
            self.spaces.insert(Arc::clone(&space), Space::new(space));
        }
    }

    /// As many resources of this lockspace are to come.
    pub(crate) fn reserve(&mut self, space: &[u8], count: usize) {
        if let Some(Space { names, .. }) = self.spaces.get_mut(space) {
            names.reserve(count.min(RESOURCES_MAX));
        }
    }

    /// The resource of this name, which [`Self::forget_unused`] removes again.
    pub(crate) fn resource(&mut self, space: &[u8], name: &[u8]) -> Result<ResourceId, Refusal> {
        self.resource_among(RESOURCES_MAX, space, name)
    }

    /// The same of an earlier image of this process, however many there are.
    pub(crate) fn adopt_resource(
        &mut self,
        space: &[u8],
        name: &[u8],
    ) -> Result<ResourceId, Refusal> {
        self.resource_among(usize::MAX, space, name)
    }

    fn resource_among(
        &mut self,
        resources_max: usize,
        space: &[u8],
        name: &[u8],
    ) -> Result<ResourceId, Refusal> {
        let Some(Space { path: space, names }) = self.spaces.get_mut(space) else {
            return Err(Refusal::NoLockspace(space.into()));
        };
        if let Some(&id) = names.get(name) {
            return Ok(id);
        }
        if self.resources.len() >= resources_max {
            return Err(Refusal::File(Failure::too_many(&path_of(space, name))));
        }
        self.resources_made += 1;
        let (id, name) = (ResourceId(self.resources_made), Arc::from(name));
        names.insert(Arc::clone(&name), id);
        self.resources.insert(id, Resource::new(Arc::clone(space), name));
        Ok(id)
    }

    /// Whether anybody has a lease on this resource.
    pub(crate) fn is_held(&self, id: ResourceId) -> bool {
        self.resources.get(&id).is_some_and(Resource::is_held)
    }

    /// Whether there is a lease of this file, under whatever name.
    pub(crate) fn has_lease_of(&self, inode: Inode) -> bool {
        self.by_inode.range((inode, ResourceId(0))..=(inode, ResourceId(u64::MAX))).next().is_some()
    }

    /// A resource.
    pub(crate) fn resource_mut(&mut self, id: ResourceId) -> Option<&mut Resource> {
        self.resources.get_mut(&id)
    }

    /// What there is of a resource's lock, if anybody has a lease.
    pub(crate) fn lock(&self, id: ResourceId) -> Option<Hold> {
        self.resources.get(&id)?.lock()
    }

    /// The key of a resource's lease in the fd store.
    pub(crate) fn key(&self, id: ResourceId) -> Option<u64> {
        self.resources.get(&id)?.key
    }

    /// All resources with their ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ResourceId> {
        self.resources.keys().copied()
    }

    /// Every lockspace, also without any, with its resources.
    pub(crate) fn by_space(&self) -> BTreeMap<&[u8], Vec<&Resource>> {
        let mut spaces: BTreeMap<&[u8], Vec<&Resource>> =
            self.spaces.keys().map(|space| (&**space, Vec::new())).collect();
        for resource in self.resources.values() {
            spaces.entry(&resource.space).or_default().push(resource);
        }
        spaces
    }

    /// A resource was locked by an earlier image of this process.
    pub(crate) fn adopt(
        &mut self,
        id: ResourceId,
        key: Option<u64>,
        lease: Lease,
        terms: Terms,
        holdings: Holdings,
    ) {
        if let Some(resource) = self.resources.get_mut(&id) {
            self.by_inode.insert((lease.inode(), id));
            resource.key = key;
            resource.adopt(lease, terms, holdings);
        }
    }

    /// Forgets a resource unless it is locked; no action on it may be under way.
    pub(crate) fn forget_unused(&mut self, id: ResourceId) {
        if self.resources.get(&id).is_some_and(|resource| !resource.is_held())
            && let Some(resource) = self.resources.remove(&id)
            && let Some(Space { names, .. }) = self.spaces.get_mut(&resource.space)
        {
            names.remove(&resource.name);
        }
    }

    /// Begins an action on a resource; none may be under way.
    pub(crate) fn begin(&mut self, id: ResourceId, action: &Action) -> Step {
        let Some(resource) = self.resources.get_mut(&id) else {
            return Step::NOTHING;
        };
        let before = resource.inode();
        let step = resource.begin(action);
        if let (Some(inode), None) = (before, resource.inode()) {
            self.by_inode.remove(&(inode, id));
        }
        step
    }

    /// Goes on with an action whose job has ended; that gives its result.
    pub(crate) fn end(
        &mut self,
        id: ResourceId,
        action: &Action,
        done: Done,
    ) -> Result<Change, Refusal> {
        match (action, done) {
            (Action::Acquire(registration, terms), Done::Acquired(lease)) => {
                let Some(resource) = self.resources.get_mut(&id) else {
                    return Ok(Change::None);
                };
                self.by_inode.insert((lease.inode(), id));
                Ok(resource.acquired(registration, *terms, lease))
            }
            (Action::Acquire(registration, _), Done::IsSame) => {
                let resource = self.resources.get_mut(&id);
                Ok(resource.map_or(Change::None, |resource| resource.share(registration)))
            }
            (_, Done::Busy(inode)) => Err(self.busy(id, inode)),
            (_, Done::Failed(failure) | Done::NotYet(failure)) => Err(Refusal::File(failure)),
            (_, Done::Settled(hold)) => {
                self.resources.get_mut(&id).into_iter().for_each(|resource| resource.settled(hold));
                Ok(Change::None)
            }
            (_, Done::Finished | Done::Acquired(_) | Done::IsSame) => Ok(Change::None),
        }
    }

    fn busy(&self, id: ResourceId, inode: Option<Inode>) -> Refusal {
        let name = self.resources.get(&id).map(|resource| (*resource.name).into());
        let ids = inode.into_iter().flat_map(|inode| {
            self.by_inode.range((inode, ResourceId(0))..=(inode, ResourceId(u64::MAX)))
        });
        let resources = ids.filter_map(|(_, id)| self.resources.get(id));
        let holders = resources.flat_map(Resource::holders);
        Refusal::Locked { name: name.unwrap_or_default(), holders: Holders::new(holders) }
    }
}

impl Space {
    fn new(path: Arc<[u8]>) -> Self {
        Self { path, names: HashMap::new() }
    }
}

#[cfg(test)]
mod tests;
