//! A failing walk made shorter: steps are left out as long as it still fails in the same way.

use std::time::{Duration, Instant};

use super::attempt::{Attempt, Equipment, Failure};
use super::course::Course;
use super::step::Step;
use crate::shortest::shortest;
use crate::supervisor::PATIENCE_VARIABLE;

/// Tries of each shorter walk, at a time: when things happen is not seeded.
const TRIES: usize = 4;

/// Whoever fails for waiting in vain need not wait for as long as the first time.
const HASTE: [(&str, &str); 1] = [(PATIENCE_VARIABLE, "6")];

/// The shortest walk that was found, and how it fails.
pub(super) struct Shortest {
    pub(super) steps: Vec<Step>,
    pub(super) failure: Failure,
}

/// Leaves out ever fewer steps at a time, for as long as `patience` allows.
pub(super) fn shrink(
    equipment: &Equipment,
    course: Course,
    steps: &[Step],
    failure: Failure,
    patience: Duration,
) -> Shortest {
    let end = Instant::now() + patience;
    let (steps, failure) = shortest(steps, failure, end, |shorter, failure| {
        fails(equipment, course, shorter, failure)
    });
    Shortest { steps, failure }
}

/// How it fails in the same way, if it does in any of some tries.
fn fails(equipment: &Equipment, course: Course, steps: &[Step], like: &Failure) -> Option<Failure> {
    let attempts: Vec<Attempt> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..TRIES)
            .map(|_| scope.spawn(|| equipment.attempt_with(course, steps, &HASTE)))
            .collect();
        tries.into_iter().map(|attempt| attempt.join().expect("an attempt")).collect()
    });
    let mut failures = attempts.into_iter().filter_map(|attempt| attempt.failure);
    failures.find(|failure| failure.place == like.place)
}
