//! What is made to fail, as text too: so it can be shown and tried again.

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;

/// Any call that is for memory: one that fails alone is made good by another.
pub(super) const MEMORY: &str = "memory";

/// The calls for memory.
pub(super) const MEMORY_CALLS: [&str; 3] = ["brk", "mmap", "mremap"];

/// So many calls for memory fail in a row.
const MEMORY_TIMES: u64 = 200;

/// A call that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Injection {
    /// In which process of the journey, counted from 1.
    pub(super) process: usize,
    /// The call, as `splice`, `fcntl:F_SETFL` or `memory`.
    pub(super) call: String,
    /// How it fails.
    pub(super) errno: Errno,
    /// Which of these calls, counted from 1, over all threads.
    pub(super) number: u64,
}

impl Injection {
    /// Whether this is the call, and that of so many before it.
    pub(super) fn strikes(&self, call: &str, number: u64) -> bool {
        self.concerns(call) && (self.number..self.number + self.times()).contains(&number)
    }

    /// Whether calls of this name are counted.
    pub(super) fn concerns(&self, call: &str) -> bool {
        self.call == call || (self.call == MEMORY && MEMORY_CALLS.contains(&call))
    }

    /// The calls that have to be asked about.
    pub(super) fn asked(&self) -> String {
        if self.call == MEMORY { MEMORY_CALLS.join(",") } else { self.call.clone() }
    }

    /// Whether the process may be aborted by it: there is no memory.
    pub(super) fn may_abort(&self) -> bool {
        [MEMORY, "mprotect"].contains(&&*self.call) || MEMORY_CALLS.contains(&&*self.call)
    }

    fn times(&self) -> u64 {
        if self.call == MEMORY { MEMORY_TIMES } else { 1 }
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, call, errno, number } = self;
        write!(formatter, "{process}:{call}:{errno:?}:{number}")
    }
}

impl FromStr for Injection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (process, rest) = text.split_once(':')?;
            let (rest, number) = rest.rsplit_once(':')?;
            let (call, errno) = rest.rsplit_once(':')?;
            let mut all = (1..=Errno::EHWPOISON as i32).map(Errno::from_raw);
            Some(Self {
                process: process.parse().ok()?,
                call: call.to_owned(),
                errno: all.find(|known| format!("{known:?}") == errno)?,
                number: number.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("'{text}' is no injection, as '1:openat:EMFILE:7' is"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read() {
        for text in ["1:splice:EIO:7", "3:fcntl:F_SETFL:EPERM:1", "2:memory:ENOMEM:30"] {
            assert_eq!(text.parse::<Injection>().unwrap().to_string(), text);
        }
        assert!("1:splice:EWELL:7".parse::<Injection>().is_err());
    }

    #[test]
    fn calls_for_memory_fail_in_a_row() {
        let injection: Injection = "1:memory:ENOMEM:5".parse().unwrap();
        assert!(!injection.strikes("mmap", 4) && injection.strikes("brk", 5));
        assert!(injection.strikes("mmap", 100) && !injection.strikes("openat", 100));
        let injection: Injection = "1:openat:EIO:5".parse().unwrap();
        assert!(injection.strikes("openat", 5) && !injection.strikes("openat", 6));
    }
}
