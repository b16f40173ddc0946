//! Lockspaces and their resources: by name, and those that are locked by file too. No I/O; what
//! touches files is handed out as jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use common::sys::lock::Hold;

use crate::error::file::FileError;
use crate::error::lock::{HolderSummary, LockError};
use crate::ids::ResourceId;
use crate::lease::file_id::FileId;
use crate::lease::job::JobResult;
use crate::lease::lock::Lease;
use crate::lockspace::action::{Action, Begun, HolderChange};
use crate::lockspace::holders::Holders;
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
    by_file: BTreeSet<(FileId, ResourceId)>,
    resources_made: u64,
}

impl Lockspaces {
    /// Only the default lockspace, whose path is empty.
    pub(crate) fn new() -> Self {
        let default: Arc<[u8]> = Arc::default();
        Self {
            spaces: HashMap::from([(Arc::clone(&default), Space::new(default))]),
            resources: BTreeMap::new(),
            by_file: BTreeSet::new(),
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
    pub(crate) fn add_space(&mut self, space: &[u8]) -> Result<(), LockError> {
        if self.has_space(space) {
            return Ok(());
        }
        if self.spaces.len() > LOCKSPACES_MAX {
            return Err(LockError::TooManyLockspaces);
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
    pub(crate) fn resource(&mut self, space: &[u8], name: &[u8]) -> Result<ResourceId, LockError> {
        self.resource_among(RESOURCES_MAX, space, name)
    }

    /// The same of an earlier image of this process, however many there are.
    pub(crate) fn adopt_resource(
        &mut self,
        space: &[u8],
        name: &[u8],
    ) -> Result<ResourceId, LockError> {
        self.resource_among(usize::MAX, space, name)
    }

    fn resource_among(
        &mut self,
        resources_max: usize,
        space: &[u8],
        name: &[u8],
    ) -> Result<ResourceId, LockError> {
        let Some(Space { path: space, names }) = self.spaces.get_mut(space) else {
            return Err(LockError::NoLockspace(space.into()));
        };
        if let Some(&id) = names.get(name) {
            return Ok(id);
        }
        if self.resources.len() >= resources_max {
            return Err(LockError::File(FileError::too_many(&path_of(space, name))));
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
    pub(crate) fn has_lease_of(&self, file_id: FileId) -> bool {
        self.by_file
            .range((file_id, ResourceId(0))..=(file_id, ResourceId(u64::MAX)))
            .next()
            .is_some()
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
        holders: Holders,
    ) {
        if let Some(resource) = self.resources.get_mut(&id) {
            self.by_file.insert((lease.file_id(), id));
            resource.key = key;
            resource.adopt(lease, terms, holders);
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
    pub(crate) fn begin(&mut self, id: ResourceId, action: &Action) -> Begun {
        let Some(resource) = self.resources.get_mut(&id) else {
            return Begun::NOTHING;
        };
        let before = resource.file_id();
        let begun = resource.begin(action);
        if let (Some(file_id), None) = (before, resource.file_id()) {
            self.by_file.remove(&(file_id, id));
        }
        begun
    }

    /// Goes on with an action whose job has ended; that gives its result.
    pub(crate) fn end(
        &mut self,
        id: ResourceId,
        action: &Action,
        job_result: JobResult,
    ) -> Result<HolderChange, LockError> {
        match (action, job_result) {
            (Action::Acquire(registration, terms), JobResult::Acquired(lease)) => {
                let Some(resource) = self.resources.get_mut(&id) else {
                    return Ok(HolderChange::None);
                };
                self.by_file.insert((lease.file_id(), id));
                Ok(resource.acquired(registration, *terms, lease))
            }
            (Action::Acquire(registration, _), JobResult::IsSame) => {
                let resource = self.resources.get_mut(&id);
                Ok(resource.map_or(HolderChange::None, |resource| resource.share(registration)))
            }
            (_, JobResult::Busy(file_id)) => Err(self.busy(id, file_id)),
            (_, JobResult::Failed(error) | JobResult::LeaseBreak(error)) => {
                Err(LockError::File(error))
            }
            (_, JobResult::LockChecked(hold)) => {
                self.resources
                    .get_mut(&id)
                    .into_iter()
                    .for_each(|resource| resource.set_lock(hold));
                Ok(HolderChange::None)
            }
            (_, JobResult::Finished | JobResult::Acquired(_) | JobResult::IsSame) => {
                Ok(HolderChange::None)
            }
        }
    }

    fn busy(&self, id: ResourceId, file_id: Option<FileId>) -> LockError {
        let name = self.resources.get(&id).map(|resource| (*resource.name).into());
        let ids = file_id.into_iter().flat_map(|file_id| {
            self.by_file.range((file_id, ResourceId(0))..=(file_id, ResourceId(u64::MAX)))
        });
        let resources = ids.filter_map(|(_, id)| self.resources.get(id));
        let holders = resources.flat_map(Resource::holders);
        LockError::Locked { name: name.unwrap_or_default(), holders: HolderSummary::new(holders) }
    }
}

impl Space {
    fn new(path: Arc<[u8]>) -> Self {
        Self { path, names: HashMap::new() }
    }
}

#[cfg(test)]
mod tests;
