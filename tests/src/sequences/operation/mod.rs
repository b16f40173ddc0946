//! Meaning of a step: the same for both daemons, and for the same number always.

mod admin;
mod lock;
mod log;
mod outside;
mod twist;

pub(super) use lock::{ACQUIRE, ODD_PIDS};
pub(super) use outside::{Change, LockMode};

use super::message::{Message, Twist};
use super::step::{Action, Step};
use crate::harness::Program;
use crate::random::Random;

/// Clients that connect for themselves to the main socket.
pub(super) const MAIN_CLIENTS: usize = 3;

/// The client on the admin socket.
pub(super) const ADMIN_CLIENT: usize = MAIN_CLIENTS;

/// The clients whose connections are guests' own: the first guest's, the second's.
pub(super) const GUEST_CLIENTS: [usize; GUESTS] = [ADMIN_CLIENT + 1, ADMIN_CLIENT + 2];

/// All clients.
pub(super) const CLIENTS: usize = ADMIN_CLIENT + 1 + GUESTS;

/// Guests that hold leases.
pub(super) const GUESTS: usize = 2;

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// A client sends a message, or so many bytes of it.
    Send { client: usize, message: Message, bytes: Option<usize> },
    /// A client sends what it has not sent of a message.
    Rest { client: usize },
    /// A client leaves.
    Close { client: usize },
    /// A client ends its sending direction.
    HalfClose { client: usize },
    /// A guest writes to a pipe; the number chooses one of those that are open.
    Write { pipe: usize, bytes: Vec<u8> },
    /// A guest closes its pipe.
    HangUp { pipe: usize },
    /// A file is changed by somebody else.
    Outside { file: String, change: Change },
    /// A guest is killed.
    Die { guest: usize },
}

/// Where a sequence is played.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) program: Program,
    /// The directory of its files, as both daemons call theirs.
    pub(super) directory: String,
}

/// Whether the next message of a client is read as the rest of another one, or after such a one.
pub(super) fn is_out_of_step(operations: &[Operation], client: usize) -> bool {
    let (mut is_half_sent, mut is_out) = (false, false);
    for operation in operations {
        match operation {
            Operation::Send { client: sender, message, bytes } if *sender == client => {
                is_out |= is_half_sent;
                is_half_sent = bytes.is_some() || matches!(message.twist, Twist::Length(_));
            }
            Operation::Rest { client: sender } if *sender == client => is_half_sent = false,
            Operation::Close { client: leaver } if *leaver == client => {
                (is_half_sent, is_out) = (false, false);
            }
            _ => {}
        }
    }
    is_out || is_half_sent
}

impl Scene {
    /// Returns the meaning of a step here.
    pub(super) fn operation(&self, step: Step) -> Operation {
        let mut random = Random::new(step.number);
        let random = &mut random;
        match step.action {
            Action::First => self.first(random),
            Action::Call => self.send(random, false),
            Action::Admin => self.send(random, true),
            Action::Twist => {
                let is_admin = random.chance(20);
                let Operation::Send { client, message, .. } = self.send(random, is_admin) else {
                    unreachable!("a message is sent")
                };
                let message = twist::twist(message, random);
                Operation::Send { client, message, bytes: None }
            }
            Action::Part => {
                let is_admin = random.chance(20);
                let Operation::Send { client, message, .. } = self.send(random, is_admin) else {
                    unreachable!("a message is sent")
                };
                let most = if random.chance(50) { 32 } else { 120 };
                Operation::Send { client, message, bytes: Some(1 + random.below(most)) }
            }
            Action::Rest => Operation::Rest { client: self.client(random) },
            Action::Close => Operation::Close { client: self.client(random) },
            Action::HalfClose => Operation::HalfClose { client: self.client(random) },
            Action::Write => {
                Operation::Write { pipe: random.below(64), bytes: log::written(random) }
            }
            Action::HangUp => Operation::HangUp { pipe: random.below(64) },
            Action::Outside => outside::change(random, self.program),
            Action::Die => Operation::Die { guest: random.below(GUESTS) },
        }
    }

    fn first(&self, random: &mut Random) -> Operation {
        let client = random.below(MAIN_CLIENTS);
        let message = match self.program {
            Program::Virtlogd => log::open(random, self),
            Program::Virtlockd => lock::register(random, client),
        };
        Operation::Send { client, message, bytes: None }
    }

    fn send(&self, random: &mut Random, is_admin: bool) -> Operation {
        if is_admin {
            let message = admin::call(random, self);
            return Operation::Send { client: ADMIN_CLIENT, message, bytes: None };
        }
        let (client, message) = match self.program {
            Program::Virtlogd => (random.below(MAIN_CLIENTS), log::call(random, self)),
            Program::Virtlockd => lock::call(random, self),
        };
        Operation::Send { client, message, bytes: None }
    }

    fn client(&self, random: &mut Random) -> usize {
        match self.program {
            Program::Virtlogd => random.below(MAIN_CLIENTS + 1),
            // A guest with leases that leaves is killed, for which libvirt's daemon takes 200 ms.
            Program::Virtlockd if random.chance(4) => random.of(&GUEST_CLIENTS),
            Program::Virtlockd => random.below(MAIN_CLIENTS + 1),
        }
    }
}
