//! Table of the leases on shared storage, by mount. It is empty, and takes no memory, without any.

use std::collections::{BTreeMap, HashMap};

use common::event::{Registered, TimerId};
use common::handover::document::ProvedMount;
use common::sys::alarm::Alarm;

use crate::ids::ResourceId;
use crate::proof::mount::Mount;
use crate::proof::policy::{OnLostLease, Policy};
use crate::proof::prober::Prober;
use crate::proof::rule::Ms;

/// Mounts whose servers are asked; ours. Each takes a thread of the prober.
pub(crate) const MOUNTS_MAX: usize = 64;

/// Leases on shared storage.
#[derive(Debug, Default)]
pub(crate) struct SharedLeases {
    pub(crate) policy: Policy,
    /// By the device number of their files.
    pub(crate) mounts: BTreeMap<u64, Mount>,
    pub(crate) leases: HashMap<ResourceId, SharedLease>,
    pub(crate) prober: Option<Prober>,
    /// Probers that have been told to end, or were left behind, and that the kernel still lists.
    pub(crate) old_probers: Vec<i32>,
    /// Timer of the next check, and its time. It does not count while the host is suspended.
    pub(crate) timer: Option<(TimerId, Ms)>,
    /// Alarm at the same time, for a host that is resumed after it.
    pub(crate) alarm: Option<Registered<Alarm>>,
    /// Earliest time of the next start of a prober.
    pub(crate) starts_at: Ms,
    /// Whether the log has told that the prober fails.
    pub(crate) is_failure_told: bool,
    pub(crate) numbers: u64,
    /// Leases that may have been lost, counted each time.
    pub(crate) doubted: u64,
    /// Whether the log has told of a lease on a block device.
    pub(crate) is_device_told: bool,
}

/// Lease on shared storage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedLease {
    pub(crate) device: u64,
    pub(crate) on_lost_lease: OnLostLease,
}

impl SharedLeases {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Returns the mount of a lease on shared storage.
    pub(crate) fn mount_of(&self, id: ResourceId) -> Option<(&Mount, SharedLease)> {
        let lease = self.leases.get(&id)?;
        Some((self.mounts.get(&lease.device)?, *lease))
    }

    /// Returns the leases on a mount.
    pub(crate) fn on_mount(&self, device: u64) -> impl Iterator<Item = (ResourceId, SharedLease)> {
        let leases = self.leases.iter().map(|(id, lease)| (*id, *lease));
        leases.filter(move |(_, lease)| lease.device == device)
    }

    /// Returns the mount with this number, and its device number.
    pub(crate) fn by_number(&mut self, number: u64) -> Option<(u64, &mut Mount)> {
        let mut mounts = self.mounts.iter_mut();
        let (device, mount) = mounts.find(|(_, mount)| mount.number == number)?;
        Some((*device, mount))
    }

    /// Returns whether a prober is needed.
    pub(crate) fn needs_prober(&self) -> bool {
        self.mounts.values().any(Mount::is_watched)
    }

    /// Counts a lease on its mount, which is known.
    pub(crate) fn add(&mut self, id: ResourceId, lease: SharedLease) {
        if let Some(mount) = self.mounts.get_mut(&lease.device) {
            mount.leases += 1;
            mount.ending_leases += usize::from(lease.on_lost_lease == OnLostLease::End);
            self.leases.insert(id, lease);
        }
    }

    /// Discounts a lease. Returns the number of its mount with the prober if that was the last one.
    pub(crate) fn remove(&mut self, id: ResourceId) -> Option<u64> {
        let lease = self.leases.remove(&id)?;
        let mount = self.mounts.get_mut(&lease.device)?;
        mount.leases = mount.leases.saturating_sub(1);
        let ending = usize::from(lease.on_lost_lease == OnLostLease::End);
        mount.ending_leases = mount.ending_leases.saturating_sub(ending);
        if mount.leases > 0 {
            return None;
        }
        if self.leases.is_empty() {
            // Its memory goes with the last lease.
            self.leases = HashMap::new();
        }
        self.mounts.remove(&lease.device).map(|mount| mount.number)
    }

    /// Returns what the next program of this process needs to know of mounts.
    pub(crate) fn save(&self) -> Option<Vec<ProvedMount>> {
        let saved = self.mounts.iter().filter_map(|(device, mount)| {
            let (asked_boot_ms, lease_ms) = mount.known()?;
            Some(ProvedMount {
                device: Some(*device),
                asked_boot_ms: Some(asked_boot_ms),
                lease_ms: Some(lease_ms),
            })
        });
        let saved: Vec<_> = saved.collect();
        (!saved.is_empty()).then_some(saved)
    }

    /// Returns the number of leases whose server does not answer, among those that can be proved.
    pub(crate) fn unproved_leases(&self) -> usize {
        let unproved = self.mounts.values().filter(|mount| mount.is_proved() == Some(false));
        unproved.map(|mount| mount.leases).sum()
    }

    /// Returns the number of leases whose guests are ended when one is lost.
    pub(crate) fn ending_leases(&self) -> usize {
        self.mounts.values().map(|mount| mount.ending_leases).sum()
    }
}
