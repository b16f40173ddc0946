//! Whose daemons there are in a walk, what becomes of them, and which steps a seed means.

use crate::harness::Whose;
use crate::random::Random;
use crate::walks::plan::STORE_FDS;
use crate::walks::step::{Action, Event, Step};

/// What is walked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Our daemon, that nobody keeps anything for.
    Alone,
    /// Our daemon with an fd store.
    Store,
    /// Ours and libvirt's in turns.
    Libvirt,
    /// libvirt's.
    Theirs,
}

/// Steps out of a hundred that become of the daemon.
const EVENT_PERCENT: usize = 8;

/// In walks over libvirt's and back: how often there is a store.
const STORE_PERCENT: usize = 50;

/// What comes often stands there several times.
const ACTIONS: &[Action] = {
    use Action::{
        Acquire, Connect, Create, Delete, Die, GoOn, Halt, HangUp, Leave, Lend, Lock, Orphan,
        Register, Release, Replace, Reuse, Space, Start, Unlock,
    };
    &[
        Acquire, Acquire, Acquire, Acquire, Acquire, Acquire, Acquire, Acquire, Acquire, Acquire,
        Acquire, Acquire, Acquire, Acquire, Release, Release, Release, Release, Release, Start,
        Start, Connect, Connect, Die, Leave, Lend, Orphan, Halt, GoOn, Reuse, Replace, Lock, Lock,
        Unlock, Create, Delete, Space, Space, Register, Register, HangUp,
    ]
};

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alone, Self::Store, Self::Libvirt, Self::Theirs];

    /// Its name.
    pub(in crate::walks) fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Store => "store",
            Self::Libvirt => "libvirt",
            Self::Theirs => "theirs",
        }
    }

    /// Whose daemon is there first.
    pub(super) fn whose(self) -> Whose {
        if self == Self::Theirs { Whose::Theirs } else { Whose::Ours }
    }

    /// The steps of a walk.
    pub(in crate::walks) fn plan(self, seed: u64, count: usize) -> Vec<Step> {
        let mut random = Random::new(seed);
        let has_store = match self {
            Self::Alone | Self::Theirs => false,
            Self::Store => true,
            Self::Libvirt => random.chance(STORE_PERCENT),
        };
        let first = [Step::Store(if has_store { STORE_FDS } else { 0 })];
        let some = [Action::Space, Action::Start, Action::Start, Action::Start];
        let some = some.map(|action| Step::Act(action, random.number() >> 32));
        let rest = std::iter::from_fn(|| Some(self.step(&mut random)));
        first.into_iter().chain(some).chain(rest).take(count).collect()
    }

    fn step(self, random: &mut Random) -> Step {
        let number = random.number() >> 32;
        if random.chance(EVENT_PERCENT) {
            Step::Event(random.of(self.events()), number)
        } else {
            Step::Act(random.of(ACTIONS), number)
        }
    }

    fn events(self) -> &'static [Event] {
        use Event::{Kill, KillInUpgrade, Libvirt, Stop, Upgrade};
        match self {
            Self::Alone | Self::Theirs => &[Upgrade, Upgrade, Upgrade, Upgrade, Stop, Kill],
            Self::Store => &[Upgrade, Upgrade, Upgrade, Stop, Kill, Kill, KillInUpgrade],
            Self::Libvirt => &[Libvirt, Libvirt, Upgrade],
        }
    }
}
