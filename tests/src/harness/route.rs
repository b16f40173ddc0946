//! Ways of one process through daemons of both makers.

use super::{Program, Subject, Whose};

/// How many upgrades a test does, in place of its own number.
const HOPS_VARIABLE: &str = "VIRT_TESTS_HOPS";

/// A daemon that becomes another one, again and again.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Which daemon.
    pub program: Program,
    /// Whose it is in turns, from the start on.
    pub turns: &'static [Whose],
}

impl Route {
    /// What is started.
    pub fn start(self) -> Subject {
        self.subjects()[0]
    }

    /// Our daemon, for what has to start with it whatever the way starts with.
    pub fn ours(self) -> Subject {
        Subject { whose: Whose::Ours, program: self.program }
    }

    /// Every daemon on the way, once per turn.
    pub fn subjects(self) -> Vec<Subject> {
        self.turns.iter().map(|&whose| Subject { whose, program: self.program }).collect()
    }

    /// Who comes before and after each upgrade: `hops` of them, or as many as
    /// `VIRT_TESTS_HOPS` says, rounded up to whole rounds.
    ///
    /// # Panics
    /// When that is not a number.
    pub fn hops(self, hops: usize) -> impl Iterator<Item = (Whose, Whose)> {
        let hops = self.hops_count(hops);
        let mut around = self.turns.iter().copied().cycle();
        let mut before = around.next().expect("somebody starts");
        around.take(hops).map(move |after| (std::mem::replace(&mut before, after), after))
    }

    /// How many upgrades [`Self::hops`] goes through.
    ///
    /// # Panics
    /// When `VIRT_TESTS_HOPS` is not a number.
    pub fn hops_count(self, hops: usize) -> usize {
        let wanted = std::env::var(HOPS_VARIABLE).ok();
        let hops = wanted.map_or(hops, |text| text.parse().expect("a number of hops"));
        hops.next_multiple_of(self.turns.len())
    }

    /// Who comes after each upgrade when the way is gone once, back to the start.
    pub fn once(self) -> impl Iterator<Item = Whose> {
        self.turns.iter().copied().cycle().skip(1).take(self.turns.len())
    }

    /// Whether only our daemons are on the way.
    pub fn is_ours(self) -> bool {
        self.turns.iter().all(|&whose| whose == Whose::Ours)
    }
}

/// Makes three tests of each function listed, which takes a [`Route`]: `theirs` and `ours` replace
/// a daemon by its like, `mixed` changes from libvirt's to ours and back.
#[macro_export]
macro_rules! routes {
    ($program:ident: $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn theirs() {
                $crate::route_test!($program, $name, [Theirs]);
            }
            #[test]
            fn ours() {
                $crate::route_test!($program, $name, [Ours]);
            }
            #[test]
            fn mixed() {
                $crate::route_test!($program, $name, [Theirs, Ours]);
            }
        }
    )+};
}

/// Makes a test `mixed` of each function listed, which takes a [`Route`] from libvirt's to ours.
#[macro_export]
macro_rules! mixed {
    ($program:ident: $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn mixed() {
                $crate::route_test!($program, $name, [Theirs, Ours]);
            }
        }
    )+};
}

/// The body of one generated test.
#[doc(hidden)]
#[macro_export]
macro_rules! route_test {
    ($program:ident, $name:ident, [$($whose:ident),+]) => {
        $crate::harness::run_along(
            $crate::harness::Route {
                program: $crate::harness::Program::$program,
                turns: &[$($crate::harness::Whose::$whose),+],
            },
            module_path!(),
            super::$name,
        )
    };
}
