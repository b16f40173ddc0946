//! Users, as the kernel names them to this process.
//!
//! A user that has no number in this process's user namespace is shown as the overflow user,
//! usually 65534. So that number means nothing here, unless all users have a number.

use std::fs;

/// The overflow user, if the kernel does not say.
const OVERFLOW_UID: u32 = 65_534;

/// Users in this user namespace.
#[derive(Debug)]
pub(crate) struct Users {
    /// The number that stands for all users without one; `None` if all have one.
    overflow: Option<u32>,
}

impl Users {
    /// Reads how this process sees users.
    pub(crate) fn here() -> Self {
        let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
        let overflow = overflow.and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW_UID);
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self { overflow: (!is_complete(&map)).then_some(overflow) }
    }

    /// Returns whether a user with this number is the one that is meant, and not one without.
    pub(crate) fn is(&self, uid: u32, meant: u32) -> bool {
        uid == meant && self.overflow != Some(uid)
    }
}

/// Returns whether all users have a number, and their own.
fn is_complete(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_number_is_nobody() {
        let all = Users { overflow: None };
        assert!(all.is(7, 7) && all.is(65_534, 65_534) && !all.is(7, 8));
        let some = Users { overflow: Some(65_534) };
        assert!(some.is(7, 7) && !some.is(65_534, 65_534));
    }

    #[test]
    fn only_the_first_user_namespace_has_all() {
        assert!(is_complete("         0          0 4294967295\n"));
        for map in ["", "0 0 1\n", "0 100000 65536\n", "0 0 1000\n1000 1 4294966295\n"] {
            assert!(!is_complete(map), "{map}");
        }
    }
}
