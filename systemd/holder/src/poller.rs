//! Readiness of fds, and what each is.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Events that are taken at once.
const EVENTS_MAX: usize = 32;

/// What an fd is. Sets are known by their place among all sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The pipe of the signals.
    Signals,
    /// The socket of a set for messages.
    Messages(u8),
    /// The socket of a set for claims.
    Claims(u8),
    /// The process that has a set.
    Daemon(u8),
    /// A connection of a process that asks for a set.
    Claimant(u8, u64),
    /// An fd of a set that is watched for its end.
    Item(u8, u64),
}

/// What an fd is watched for. Its end is noticed in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
    End,
}

/// All fds that are watched.
#[derive(Debug)]
pub(crate) struct Poller(Epoll);

impl Poller {
    /// # Errors
    /// As `epoll_create1(2)`.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches an fd until it is [forgotten](Self::forget), which has to be before it is closed:
    /// others may have copies of it.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`: `EPERM` for a file that is always ready.
    pub(crate) fn watch(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(interest.flags(), token.number()))?)
    }

    /// Watches it for something else.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub(crate) fn change(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.0.modify(fd, &mut EpollEvent::new(interest.flags(), token.number()))?)
    }

    /// Watches an fd no more.
    pub(crate) fn forget(&self, fd: impl AsFd) {
        // One that was never watched need not be forgotten.
        self.0.delete(fd).ok();
    }

    /// Waits for events; there may be none.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub(crate) fn wait(&self, patience: Option<Duration>) -> io::Result<Vec<Token>> {
        let timeout = match patience {
            // Rounded up, or it would wake up early and in vain.
            Some(time) => EpollTimeout::try_from(time + Duration::from_millis(1))
                .unwrap_or(EpollTimeout::NONE),
            None => EpollTimeout::NONE,
        };
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let count = match self.0.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        Ok(events.iter().take(count).filter_map(|event| Token::of(event.data())).collect())
    }
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
            Self::End => EpollFlags::empty(),
        }
    }
}

/// Bits of a token's number: kind, set, and the number in the set.
const KIND_SHIFT: u32 = 56;
const SET_SHIFT: u32 = 48;
const NUMBER_MASK: u64 = (1 << SET_SHIFT) - 1;

impl Token {
    fn number(self) -> u64 {
        let (kind, set, number) = match self {
            Self::Signals => (0, 0, 0),
            Self::Messages(set) => (1, set, 0),
            Self::Claims(set) => (2, set, 0),
            Self::Daemon(set) => (3, set, 0),
            Self::Claimant(set, number) => (4, set, number),
            Self::Item(set, number) => (5, set, number),
        };
        (kind << KIND_SHIFT) | (u64::from(set) << SET_SHIFT) | (number & NUMBER_MASK)
    }

    fn of(number: u64) -> Option<Self> {
        let [kind, set, ..] = number.to_be_bytes();
        let number = number & NUMBER_MASK;
        Some(match kind {
            0 => Self::Signals,
            1 => Self::Messages(set),
            2 => Self::Claims(set),
            3 => Self::Daemon(set),
            4 => Self::Claimant(set, number),
            5 => Self::Item(set, number),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_number() {
        let tokens = [
            Token::Signals,
            Token::Messages(1),
            Token::Claims(255),
            Token::Daemon(2),
            Token::Claimant(3, 7),
            Token::Item(4, NUMBER_MASK),
        ];
        for token in tokens {
            assert_eq!(Token::of(token.number()), Some(token));
        }
        assert_eq!(Token::of(u64::MAX), None);
    }

    #[test]
    fn the_end_of_a_pipe_is_noticed_and_its_content_is_not() {
        let poller = Poller::new().unwrap();
        let (reader, writer) = common::sys::pipe::pipe().unwrap();
        poller.watch(&reader, Token::Item(0, 1), Interest::End).unwrap();
        nix::unistd::write(&writer, b"x").unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), []);
        drop(writer);
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), [Token::Item(0, 1)]);
        poller.forget(&reader);
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), []);
    }
}
