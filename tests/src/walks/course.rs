//! What kind of walk it is.

use super::rivals::Mode;
use crate::harness::Program;

/// A kind of walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Through faults of the machine that come together.
    Faults(Program),
    /// Of guests and strangers who all want the same disks.
    Rivals(Mode),
}

impl Course {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Faults(program) => program.name(),
            Self::Rivals(mode) => mode.name(),
        }
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let programs = [Program::Virtlogd, Program::Virtlockd].map(Self::Faults);
        let modes = Mode::ALL.map(Self::Rivals);
        programs.into_iter().chain(modes).find(|course| course.name() == name)
    }
}
