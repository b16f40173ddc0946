//! Block devices that are leased. The kernel treats two nodes of one device as two files, whose
//! locks do not exclude each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::sys::lock::Mode;

use common::sys::file_id::FileId;

/// Block devices that are leased. Clones share one table, for jobs on other threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Devices(Arc<Mutex<HashMap<FileId, DeviceClaims>>>);

/// Number of leases of a device, by any node.
#[derive(Debug, Default)]
struct DeviceClaims {
    shared: usize,
    exclusive: usize,
}

/// Lease of a device, until it is dropped.
#[derive(Debug)]
pub(crate) struct DeviceClaim {
    devices: Devices,
    device: FileId,
    mode: Mode,
}

impl Devices {
    /// Counts a new lease. Returns `None` if another lease excludes it.
    pub(crate) fn claim(&self, device: FileId, mode: Mode) -> Option<DeviceClaim> {
        let mut devices = self.devices();
        let claims = devices.entry(device).or_default();
        let is_free = claims.exclusive == 0 && (mode == Mode::Shared || claims.shared == 0);
        is_free.then(|| self.add(claims, device, mode))
    }

    /// Counts a lease that exists already, whatever other leases there are.
    pub(crate) fn adopt(&self, device: FileId, mode: Mode) -> DeviceClaim {
        self.add(self.devices().entry(device).or_default(), device, mode)
    }

    fn add(&self, claims: &mut DeviceClaims, device: FileId, mode: Mode) -> DeviceClaim {
        *claims.of(mode) += 1;
        DeviceClaim { devices: self.clone(), device, mode }
    }

    fn devices(&self) -> MutexGuard<'_, HashMap<FileId, DeviceClaims>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeviceClaims {
    fn of(&mut self, mode: Mode) -> &mut usize {
        match mode {
            Mode::Shared => &mut self.shared,
            Mode::Exclusive => &mut self.exclusive,
        }
    }
}

impl Drop for DeviceClaim {
    fn drop(&mut self) {
        let mut devices = self.devices.devices();
        let Some(claims) = devices.get_mut(&self.device) else { return };
        let count = claims.of(self.mode);
        *count = count.saturating_sub(1);
        if (claims.shared, claims.exclusive) == (0, 0) {
            devices.remove(&self.device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_had_by_many_or_by_one() {
        let devices = Devices::default();
        let device = FileId { device: 0, number: 7 };
        let other = FileId { device: 0, number: 8 };
        let shared = [0, 1].map(|_| devices.claim(device, Mode::Shared).unwrap());
        assert!(devices.claim(device, Mode::Exclusive).is_none());
        let _other = devices.claim(other, Mode::Exclusive).unwrap();
        drop(shared);
        let exclusive = devices.claim(device, Mode::Exclusive).unwrap();
        for mode in [Mode::Shared, Mode::Exclusive] {
            assert!(devices.claim(device, mode).is_none());
        }
        let adopted = devices.adopt(device, Mode::Shared);
        drop(exclusive);
        assert!(devices.claim(device, Mode::Exclusive).is_none());
        drop(adopted);
        assert!(devices.claim(device, Mode::Exclusive).is_some());
        assert_eq!(devices.devices().len(), 1);
    }
}
