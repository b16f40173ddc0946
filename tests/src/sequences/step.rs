//! What a sequence is made of, as text too: so it can be shown, shortened and played again.

use std::fmt;
use std::str::FromStr;

use crate::harness::Program;
use crate::named::named;
use crate::random::Random;
pub(super) use crate::steps::{parse, show};

named! {
    /// What is done in a step. Whatever else there is to choose, its number does.
    Action {
        /// A client makes a call of the daemon's program.
        Call = "call",
        /// A client does what most clients do first: it opens a log, or registers.
        First = "first",
        /// A client makes a call of the admin program.
        Admin = "admin",
        /// A client sends a message that is not as it should be.
        Twist = "twist",
        /// A client sends some bytes of a message.
        Part = "part",
        /// A client sends the others.
        Rest = "rest",
        /// A client leaves.
        Close = "close",
        /// A client ends its sending direction.
        HalfClose = "half-close",
        /// A guest writes to its log.
        Write = "write",
        /// A guest ends: its pipe is closed.
        HangUp = "hang-up",
        /// Files are changed by somebody else.
        Outside = "outside",
        /// A guest that holds leases is killed.
        Die = "die",
    }
}

/// One step of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) action: Action,
    pub(super) number: u64,
}

/// Fewest and most steps of a sequence.
const STEPS_MIN: usize = 4;
const STEPS_MAX: usize = 20;

/// Most of what clients do first.
const FIRST_MAX: usize = 3;

/// What comes how often.
const LOG_ACTIONS: &[(Action, usize)] = &[
    (Action::Call, 44),
    (Action::Admin, 6),
    (Action::Twist, 8),
    (Action::Part, 3),
    (Action::Rest, 3),
    (Action::Close, 3),
    (Action::HalfClose, 1),
    (Action::Write, 18),
    (Action::HangUp, 5),
    (Action::Outside, 5),
];
const LOCK_ACTIONS: &[(Action, usize)] = &[
    (Action::Call, 70),
    (Action::Admin, 6),
    (Action::Twist, 7),
    (Action::Part, 3),
    (Action::Rest, 3),
    (Action::Close, 3),
    (Action::HalfClose, 1),
    (Action::Outside, 9),
    (Action::Die, 1),
];

/// The steps that a seed means.
pub(super) fn plan(program: Program, seed: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let actions = match program {
        Program::Virtlogd => LOG_ACTIONS,
        Program::Virtlockd => LOCK_ACTIONS,
    };
    let count = STEPS_MIN + random.below(STEPS_MAX - STEPS_MIN + 1);
    let step = |action, random: &mut Random| Step { action, number: random.number() >> 32 };
    let first = random.below(FIRST_MAX + 1);
    let mut steps: Vec<_> = (0..first).map(|_| step(Action::First, &mut random)).collect();
    for _ in 0..count {
        let action = random.weighted(actions);
        steps.push(step(action, &mut random));
    }
    steps
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.action.name(), self.number)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.trim().split_once(' ');
        let step = words.and_then(|(name, number)| {
            Some(Self { action: Action::named(name)?, number: number.parse().ok()? })
        });
        step.ok_or_else(|| format!("'{text}' is no step"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read() {
        for program in [Program::Virtlogd, Program::Virtlockd] {
            let steps = plan(program, 7);
            assert_eq!(parse::<Step>(&show(&steps)).unwrap(), steps);
        }
        assert!(parse::<Step>("fly 1").is_err());
    }
}
