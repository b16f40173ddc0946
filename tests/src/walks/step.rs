//! What a walk is made of, as text too: so a walk can be shown, shortened and tried again.

use std::fmt;
use std::str::FromStr;

use crate::named::named;
pub(super) use crate::steps::{parse, show};

named! {
    /// What is wrong with the machine for some time.
    Fault {
        /// No call on the file system comes back.
        DiskHangs = "disk-hangs",
        /// Each call takes long.
        DiskSlow = "disk-slow",
        /// There is no room left.
        DiskFull = "disk-full",
        /// Each call fails.
        IoError = "io-error",
        /// Whatever changes something fails.
        ReadOnly = "read-only",
        /// Files can be appended to, and that is all.
        AppendOnly = "append-only",
        /// Somebody else appends to all logs.
        OtherWriter = "other-writer",
        /// The directory of the files has gone.
        DirectoryGone = "directory-gone",
        /// The fd store takes few fds, as it says.
        StoreFull = "store-full",
        /// The fd store takes fewer than it says.
        StoreSmall = "store-small",
        /// The supervisor takes no messages.
        SupervisorSlow = "supervisor-slow",
        /// The supervisor's socket is not there, and what was in it is lost.
        SupervisorGone = "supervisor-gone",
        /// The fd store has been emptied behind the daemon's back, not long ago.
        StoreEmptied = "store-emptied",
        /// The daemon cannot have more fds.
        FdLimit = "fd-limit",
    }
}

named! {
    /// What becomes of the daemon's process.
    Event {
        /// `SIGTERM`, and it is started again.
        Stop = "stop",
        /// `SIGKILL`, and it is started again.
        Kill = "kill",
        /// `SIGUSR1`, with ours in place.
        Upgrade = "upgrade",
        /// `SIGUSR1` with libvirt's in place, and back; among rivals with the other maker's.
        Libvirt = "libvirt",
        /// `SIGUSR1`, and `SIGKILL` while that is under way.
        KillInUpgrade = "kill-in-upgrade",
    }
}

named! {
    /// What guests and their managers do.
    Action {
        /// A log is opened, and a guest begins to write to it.
        Open = "open",
        /// A guest writes some lines.
        Write = "write",
        /// A guest writes much at once.
        Flood = "flood",
        /// A guest writes a line now and then, also while other steps are done.
        Trickle = "trickle",
        /// A manager adds a line to a log.
        Append = "append",
        /// A manager reads from a log.
        Read = "read",
        /// A guest starts and registers with virtlockd.
        Start = "start",
        /// A lease is taken for a guest.
        Acquire = "acquire",
        /// It is given back.
        Release = "release",
        /// Another guest wants a lease that is held.
        Contend = "contend",
        /// A guest closes its connection while it holds leases.
        Leave = "leave",
        /// A guest is killed.
        Die = "die",
        /// A guest connects, or once more.
        Connect = "connect",
        /// A guest has a child keep a connection open.
        Lend = "lend",
        /// Such a child ends.
        Orphan = "orphan",
        /// A guest stands still.
        Halt = "halt",
        /// It goes on.
        GoOn = "go-on",
        /// A guest starts with the pid of one that has ended.
        Reuse = "reuse",
        /// Another file takes the name of an image.
        Replace = "replace",
        /// Somebody who is no client locks a file.
        Lock = "lock",
        /// They unlock it.
        Unlock = "unlock",
        /// A resource's file is made.
        Create = "create",
        /// It is removed.
        Delete = "delete",
        /// A lockspace is made.
        Space = "space",
        /// A manager connects for a guest, and stays.
        Register = "register",
        /// It leaves.
        HangUp = "hang-up",
    }
}

/// One step of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The fd store takes so many fds, or there is none; before anything else.
    Store(usize),
    /// Something is done. The number chooses to what and how much.
    Act(Action, u64),
    /// Something begins to be wrong. The number chooses how much.
    Begin(Fault, u64),
    /// It is well again.
    End(Fault),
    /// Something becomes of the process. The number chooses when.
    Event(Event, u64),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(fds) => write!(formatter, "store {fds}"),
            Self::Act(action, number) => write!(formatter, "act {} {number}", action.name()),
            Self::Begin(fault, number) => write!(formatter, "begin {} {number}", fault.name()),
            Self::End(fault) => write!(formatter, "end {}", fault.name()),
            Self::Event(event, number) => write!(formatter, "event {} {number}", event.name()),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        let step = match words[..] {
            ["store", fds] => fds.parse().ok().map(Self::Store),
            ["end", fault] => Fault::named(fault).map(Self::End),
            [kind, name, number] => number.parse().ok().and_then(|number| match kind {
                "act" => Some(Self::Act(Action::named(name)?, number)),
                "begin" => Some(Self::Begin(Fault::named(name)?, number)),
                "event" => Some(Self::Event(Event::named(name)?, number)),
                _ => None,
            }),
            _ => None,
        };
        step.ok_or_else(|| format!("'{text}' is no step"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read() {
        let steps = [
            Step::Store(20),
            Step::Act(Action::Flood, 77),
            Step::Begin(Fault::DiskHangs, 3),
            Step::Event(Event::KillInUpgrade, 0),
            Step::End(Fault::DiskHangs),
        ];
        assert_eq!(parse::<Step>(&show(&steps)).unwrap(), steps);
        assert!(parse::<Step>("act fly 1").is_err());
    }
}
