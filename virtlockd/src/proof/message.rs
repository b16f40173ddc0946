//! Lines between the daemon and its prober.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use common::handover::text::{hex, unhex};
use common::sys::pipe;

use crate::proof::rule::Ms;

/// Longest line in bytes, which a pipe takes in one piece.
pub(crate) const LINE_BYTES_MAX: usize = pipe::ATOMIC_BYTES;

/// Longest mount point in bytes that fits into a line; ours.
pub(crate) const POINT_BYTES_MAX: usize = 2000;

/// Order of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ask the server of a mount again and again, under a number.
    Watch { number: u64, mount: WatchedMount },
    /// Leave a mount alone.
    Leave { number: u64 },
}

/// Mount whose server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchedMount {
    pub(crate) device: u64,
    /// Lease time as it was set; `None` if the kernel is to tell.
    pub(crate) lease_ms: Option<Ms>,
    pub(crate) point: PathBuf,
}

/// Report of the prober on the mount of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// The server has answered.
    Answered { number: u64, asked: Ms, answered: Ms, lease_ms: Ms },
    /// By the kernel's account the lease has run out.
    Expired { number: u64 },
}

impl Order {
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Watch { number, mount: WatchedMount { device, lease_ms, point } } => {
                let point = hex(point.as_os_str().as_bytes());
                format!("watch {number} {device} {} {point}\n", lease_ms.unwrap_or(0))
            }
            Self::Leave { number } => format!("leave {number}\n"),
        }
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        let number = words.next()?.parse().ok()?;
        match kind {
            "watch" => {
                let device = words.next()?.parse().ok()?;
                let lease_ms = Some(words.next()?.parse().ok()?).filter(|&lease| lease > 0);
                let point = OsString::from_vec(unhex(words.next()?)?).into();
                Some(Self::Watch { number, mount: WatchedMount { device, lease_ms, point } })
            }
            "leave" => Some(Self::Leave { number }),
            _ => None,
        }
    }
}

impl Report {
    pub(crate) fn line(self) -> String {
        match self {
            Self::Answered { number, asked, answered, lease_ms } => {
                format!("answered {number} {asked} {answered} {lease_ms}\n")
            }
            Self::Expired { number } => format!("expired {number}\n"),
        }
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        let mut next = || words.next()?.parse().ok();
        let number = next()?;
        match kind {
            "answered" => {
                let (asked, answered, lease_ms) = (next()?, next()?, next()?);
                Some(Self::Answered { number, asked, answered, lease_ms })
            }
            "expired" => Some(Self::Expired { number }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_was_meant() {
        let point = OsString::from_vec(b"/a b\n\xff".to_vec()).into();
        for lease_ms in [None, Some(9000)] {
            let mount = WatchedMount { device: 7, lease_ms, point: PathBuf::clone(&point) };
            let order = Order::Watch { number: 3, mount };
            assert_eq!(Order::parse(&order.line()), Some(order));
        }
        assert_eq!(Order::parse("leave 4"), Some(Order::Leave { number: 4 }));
        let answered = Report::Answered { number: 1, asked: 2, answered: 3, lease_ms: 4 };
        for report in [answered, Report::Expired { number: 9 }] {
            assert_eq!(Report::parse(&report.line()), Some(report));
        }
    }

    #[test]
    fn the_longest_mount_point_fits_into_a_line() {
        let point = PathBuf::from("x".repeat(POINT_BYTES_MAX));
        let mount = WatchedMount { device: u64::MAX, lease_ms: Some(u64::MAX), point };
        let line = Order::Watch { number: u64::MAX, mount }.line();
        assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
    }

    #[test]
    fn anything_else_is_no_line() {
        for line in ["", "watch", "watch 1", "watch x 1 0 2f", "watch 1 1 0 xy", "leave", "go 1"] {
            assert_eq!(Order::parse(line), None, "{line}");
        }
        for line in ["", "answered 1 2 3", "answered 1 2 3 -4", "expired", "lost 1"] {
            assert_eq!(Report::parse(line), None, "{line}");
        }
    }
}
