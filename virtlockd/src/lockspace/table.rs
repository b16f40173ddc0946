//! Table of lockspaces and their resources. No I/O: what touches files is returned as a job.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use common::sys::file_id::FileId;
use common::sys::lock::Hold;

use crate::error::file::FileError;
use crate::error::lock::LockError;
use crate::ids::ResourceId;
use crate::lease::job::JobResult;
use crate::lease::lock::Lease;
use crate::lockspace::action::{Action, Begun, HolderChange};
use crate::lockspace::holders::{HolderSummary, Holders};
use crate::lockspace::resource::{Resource, path_of};
use crate::protocol::Terms;

/// Limit of lockspaces beside the default one; ours. Any client can add some, and they are never
/// removed.
const LOCKSPACES_MAX: usize = 4096;

/// Limit of resources that are locked or worked on. It is libvirt's limit of open files in its
/// unit, which limits them there.
const RESOURCES_MAX: usize = 524_288;

#[derive(Debug)]
struct Space {
    path: Arc<[u8]>,
    names: HashMap<Arc<[u8]>, ResourceId>,
}

/// Table of lockspaces. A lockspace is known by its path to the letter: `/a` and `/a/` are two.
#[derive(Debug)]
pub(crate) struct Lockspaces {
    spaces: HashMap<Arc<[u8]>, Space>,
    /// In the order of their creation, and so of their memory: an upgrade goes through all of them.
    resources: BTreeMap<ResourceId, Resource>,
    /// Names of locked files, to tell the holders of a file.
    by_file: BTreeSet<(FileId, ResourceId)>,
    resources_made: u64,
}

impl Lockspaces {
    /// Creates a table with the default lockspace, whose path is empty.
    pub(crate) fn new() -> Self {
        let default: Arc<[u8]> = Arc::default();
        Self {
            spaces: HashMap::from([(Arc::clone(&default), Space::new(default))]),
            resources: BTreeMap::new(),
            by_file: BTreeSet::new(),
            resources_made: 0,
        }
    }

    /// Returns whether no resource is locked or worked on.
    pub(crate) fn are_unused(&self) -> bool {
        self.resources.is_empty()
    }

    /// Returns whether there is a lockspace with this path.
    pub(crate) fn has_space(&self, space: &[u8]) -> bool {
        self.spaces.contains_key(space)
    }

    /// Returns the path of a resource's file.
    pub(crate) fn path(&self, id: ResourceId) -> Option<Arc<Path>> {
        self.resources.get(&id).map(Resource::path)
    }

    /// Adds a lockspace, whose directory exists, unless it is known.
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

    /// Adds a lockspace of an earlier process, above the limit as well: its leases have to be
    /// released some time.
    pub(crate) fn adopt_space(&mut self, space: &[u8]) {
        if !self.has_space(space) {
            let space: Arc<[u8]> = space.into();
            self.spaces.insert(Arc::clone(&space), Space::new(space));
        }
    }

    /// Reserves memory for resources of a lockspace.
    pub(crate) fn reserve(&mut self, space: &[u8], count: usize) {
        if let Some(Space { names, .. }) = self.spaces.get_mut(space) {
            names.reserve(count.min(RESOURCES_MAX));
        }
    }

    /// Returns the resource of this name, which [`Self::forget_unused`] removes again.
    pub(crate) fn resource(&mut self, space: &[u8], name: &[u8]) -> Result<ResourceId, LockError> {
        self.resource_among(RESOURCES_MAX, space, name)
    }

    /// Returns the resource of this name that an earlier process had, above the limit as well.
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

    /// Returns whether a resource has a lease.
    pub(crate) fn is_held(&self, id: ResourceId) -> bool {
        self.resources.get(&id).is_some_and(Resource::is_held)
    }

    /// Returns whether there is a lease of this file, under any name.
    pub(crate) fn has_lease_of(&self, file_id: FileId) -> bool {
        self.by_file
            .range((file_id, ResourceId(0))..=(file_id, ResourceId(u64::MAX)))
            .next()
            .is_some()
    }

    /// Returns a resource.
    pub(crate) fn resource_mut(&mut self, id: ResourceId) -> Option<&mut Resource> {
        self.resources.get_mut(&id)
    }

    /// Returns a resource.
    pub(crate) fn resource_at(&self, id: ResourceId) -> Option<&Resource> {
        self.resources.get(&id)
    }

    /// Returns the leased file of a resource, if any.
    pub(crate) fn file_id(&self, id: ResourceId) -> Option<FileId> {
        self.resources.get(&id)?.file_id()
    }

    /// Returns what there is of a resource's lock, or `None` without a lease.
    pub(crate) fn lock(&self, id: ResourceId) -> Option<Hold> {
        self.resources.get(&id)?.lock()
    }

    /// Returns the key of a resource's lease in the fd store.
    pub(crate) fn key(&self, id: ResourceId) -> Option<u64> {
        self.resources.get(&id)?.key
    }

    /// Returns the ids of all resources.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ResourceId> {
        self.resources.keys().copied()
    }

    /// Returns the resources from this one on.
    pub(crate) fn from(&self, id: ResourceId) -> impl Iterator<Item = (ResourceId, &Resource)> {
        self.resources.range(id..).map(|(&id, resource)| (id, resource))
    }

    /// Returns every lockspace with its resources, if any.
    pub(crate) fn by_space(&self) -> BTreeMap<&[u8], Vec<&Resource>> {
        let mut spaces: BTreeMap<&[u8], Vec<&Resource>> =
            self.spaces.keys().map(|space| (&**space, Vec::new())).collect();
        for resource in self.resources.values() {
            spaces.entry(&resource.space).or_default().push(resource);
        }
        spaces
    }

    /// Sets the lease of a resource that an earlier process has acquired.
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

    /// Forgets a resource unless it has a lease. No action on it may be under way.
    pub(crate) fn forget_unused(&mut self, id: ResourceId) {
        if self.resources.get(&id).is_some_and(|resource| !resource.is_held())
            && let Some(resource) = self.resources.remove(&id)
            && let Some(Space { names, .. }) = self.spaces.get_mut(&resource.space)
        {
            names.remove(&resource.name);
        }
    }

    /// Begins an action on a resource. No other may be under way.
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

    /// Ends an action whose job has ended, and returns its result.
    pub(crate) fn finish(
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
            (Action::Acquire(registration, _), JobResult::SameFile) => {
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
            (_, JobResult::LockTested(result)) => {
                if let Some(resource) = self.resources.get_mut(&id) {
                    resource.lock_tested(result);
                }
                Ok(HolderChange::None)
            }
            (_, JobResult::Finished | JobResult::Acquired(_) | JobResult::SameFile) => {
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
