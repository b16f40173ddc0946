//! Which steps a seed means.

use super::step::{Action, Event, Fault, Step};
use crate::harness::Program;
use crate::random::Random;

/// Room for everything.
pub(super) const STORE_FDS: usize = 512;

/// Stores that are full soon.
const SMALL_STORES: [usize; 4] = [16, 26, 30, 36];

/// What happens so many times out of a hundred.
const SMALL_STORE_PERCENT: usize = 20;
const EVENT_PERCENT: usize = 22;
const FAULT_PERCENT: usize = 28;

/// Faults at a time, beside a small store.
const FAULTS_MAX: usize = 3;

/// What may be left out of walks.
#[derive(Debug, Clone, Default)]
pub(super) struct Leave {
    /// Faults that never begin.
    pub(super) faults: Vec<Fault>,
    /// Events that never come.
    pub(super) events: Vec<Event>,
}

/// The steps of a walk.
pub(super) fn plan(program: Program, seed: u64, steps: usize, leave: &Leave) -> Vec<Step> {
    Planner::new(program, seed, leave).steps(steps)
}

struct Planner {
    random: Random,
    faults: Vec<Fault>,
    events: Vec<Event>,
    has_small_stores: bool,
    actions: &'static [Action],
    wrong: Vec<Fault>,
}

impl Planner {
    fn new(program: Program, seed: u64, leave: &Leave) -> Self {
        let left_out = |fault: &Fault| leave.faults.contains(fault) || !concerns(program, *fault);
        let faults = Fault::ALL.iter().filter(|fault| !left_out(fault)).copied();
        let faults: Vec<_> = faults.collect();
        let events = Event::ALL.iter().filter(|event| !leave.events.contains(event)).copied();
        Self {
            random: Random::new(seed),
            has_small_stores: faults.contains(&Fault::StoreFull),
            faults: faults.into_iter().filter(|&fault| fault != Fault::StoreFull).collect(),
            events: events.collect(),
            actions: actions_of(program),
            wrong: Vec::new(),
        }
    }

    fn steps(mut self, count: usize) -> Vec<Step> {
        let is_small = self.has_small_stores && self.random.chance(SMALL_STORE_PERCENT);
        let fds = if is_small { self.random.of(&SMALL_STORES) } else { STORE_FDS };
        // Something to lose, before anything goes wrong.
        let first = [Step::Store(fds)].into_iter();
        let first =
            first.chain((0..3).map(|_| Step::Act(self.actions[0], self.random.number() >> 32)));
        let mut steps: Vec<_> = first.collect();
        while steps.len() < count {
            let step = self.step();
            steps.push(step);
        }
        steps
    }

    fn step(&mut self) -> Step {
        let number = self.random.number() >> 32;
        match self.random.below(100) {
            dice if dice < EVENT_PERCENT && !self.events.is_empty() => {
                Step::Event(self.random.of(&self.events), number)
            }
            dice if dice < EVENT_PERCENT + FAULT_PERCENT && !self.faults.is_empty() => {
                self.change(number)
            }
            _ => Step::Act(self.random.of(self.actions), number),
        }
    }

    /// Something goes wrong or well.
    fn change(&mut self, number: u64) -> Step {
        if self.wrong.len() >= FAULTS_MAX || (!self.wrong.is_empty() && self.random.chance(40)) {
            let index = self.random.below(self.wrong.len());
            return Step::End(self.wrong.swap_remove(index));
        }
        let fault = self.random.of(&self.faults);
        if let Some(index) = self.wrong.iter().position(|&wrong| wrong == fault) {
            return Step::End(self.wrong.swap_remove(index));
        }
        if fault != Fault::StoreEmptied {
            self.wrong.push(fault);
        }
        Step::Begin(fault, number)
    }
}

/// Whether a fault is one for this daemon: nothing is written to images.
fn concerns(program: Program, fault: Fault) -> bool {
    program == Program::Virtlogd || !matches!(fault, Fault::AppendOnly | Fault::OtherWriter)
}

/// The first is what everything begins with; what comes often stands there several times.
fn actions_of(program: Program) -> &'static [Action] {
    use Action::{
        Acquire, Append, Contend, Die, Flood, Leave, Open, Read, Release, Start, Trickle, Write,
    };
    match program {
        Program::Virtlogd => {
            &[Open, Open, Write, Write, Write, Flood, Trickle, Trickle, Append, Read, Die]
        }
        Program::Virtlockd => &[
            Start, Start, Acquire, Acquire, Acquire, Acquire, Release, Release, Contend, Contend,
            Die, Leave,
        ],
    }
}
