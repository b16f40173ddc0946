//! One sequence, played with both daemons.

use std::fmt::Write;
use std::time::Duration;

use super::comparison::{Difference, Place, compare};
use super::files::Content;
use super::message::Piece;
use super::observation::Observation;
use super::operation::{Operation, Scene, is_out_of_step};
use super::pair::{Configuration, Pair};
use super::rules::{Case, Rule, explaining};
use super::side::{Gone, Side};
use super::step::Step;
use super::tidying::{is_administration, release_all, reset_settings};
use crate::harness::{Program, eventually_within};

/// How long it is waited, again and again, for a difference to go away.
const PAUSES_MS: [u64; 6] = [1, 5, 20, 50, 100, 200];

/// How long both daemons may take for the end of the same guests.
const END_PERIOD: Duration = Duration::from_millis(500);

/// What came of a sequence.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Titles of the rules that differences were explained by.
    pub(super) explained: Vec<&'static str>,
    /// Steps that were compared.
    pub(super) steps: usize,
    /// Answers that were the same.
    pub(super) answers: usize,
    /// Whether the two daemons went different ways, as is meant.
    pub(super) has_parted: bool,
    /// Whether they are not fit for another sequence.
    pub(super) is_spent: bool,
    /// How libvirt's daemon came to its end.
    pub(super) theirs_gone: Option<String>,
    pub(super) failure: Option<Failure>,
}

/// A difference that nothing explains, or an end of our daemon.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What it is, which tells one from another.
    pub(super) kind: String,
    /// All about it.
    pub(super) text: String,
}

/// Plays the steps, in a directory with this number.
pub(super) fn play(pair: &mut Pair, program: Program, steps: &[Step], number: usize) -> Outcome {
    let directory = format!("/var/log/{number:07}");
    let mut sequence = Sequence {
        scene: Scene { program, directory },
        configuration: pair.configuration,
        operations: Vec::new(),
        before: [Observation::default(), Observation::default()],
        outcome: Outcome::default(),
    };
    for side in pair.sides() {
        side.begin(&sequence.scene);
    }
    pair.played += 1;
    for &step in steps {
        if sequence.step(pair, step).is_none() {
            break;
        }
    }
    if sequence.outcome.theirs_gone.is_none() && sequence.outcome.failure.is_none() {
        sequence.finish(pair);
    }
    sequence.outcome
}

struct Sequence {
    scene: Scene,
    configuration: Configuration,
    operations: Vec<Operation>,
    before: [Observation; 2],
    outcome: Outcome,
}

impl Sequence {
    /// `None` when no more can be compared.
    fn step(&mut self, pair: &mut Pair, step: Step) -> Option<()> {
        let operation = on_open_pipe(self.scene.operation(step), pair)?;
        let operation = self.with_common_numbers(operation);
        let number = self.operations.len();
        self.operations.push(operation);
        let operation = &self.operations[number];
        let mut seen = [Observation::default(), Observation::default()];
        for (side, seen) in pair.sides().into_iter().zip(&mut seen) {
            seen.outcome = side.act(operation);
        }
        let differences = self.observe(pair, &mut seen)?;
        self.outcome.steps += 1;
        self.outcome.answers += seen[0].items.values().map(Vec::len).sum::<usize>();
        let parted = self.judge(&seen, &differences)?;
        self.before = seen;
        if parted {
            self.outcome.has_parted = true;
            return None;
        }
        Some(())
    }

    /// Replaces what each daemon has a number of its own for, in a message that is read as the rest of the
    /// one before it.
    fn with_common_numbers(&self, mut operation: Operation) -> Operation {
        if let Operation::Send { client, message, .. } = &mut operation
            && is_out_of_step(&self.operations, *client)
        {
            message.arguments.iter_mut().for_each(Piece::make_common);
        }
        operation
    }

    /// What is different when both have done what they were told. What will be the same is waited for.
    fn observe(&mut self, pair: &mut Pair, seen: &mut [Observation; 2]) -> Option<Vec<Difference>> {
        let mut pauses = PAUSES_MS.iter();
        loop {
            let step = self.operations.len();
            let [theirs, ours] = &mut *seen;
            if let Err(Gone(how)) = theirs.update(&mut pair.theirs, self.scene.program, step) {
                self.outcome.theirs_gone = Some(format!("{how}\n{}", self.shown()));
                return None;
            }
            if let Err(Gone(how)) = ours.update(&mut pair.ours, self.scene.program, step) {
                let text = format!("our daemon: {how}\n{}", pair.ours.stderr());
                self.fail("our daemon is gone", &text);
                return None;
            }
            let differences = compare(theirs, ours);
            let rules = differences.iter().map(|it| explaining(&self.case(seen, it)));
            let patience_ms = rules.map(patience_ms).max().unwrap_or(0);
            match pauses.next().filter(|&&pause| pause <= patience_ms) {
                Some(&pause) => std::thread::sleep(Duration::from_millis(pause)),
                None => return Some(differences),
            }
        }
    }

    /// Explains the differences; whether the daemons have parted, or `None` when that is not meant.
    fn judge(&mut self, seen: &[Observation; 2], differences: &[Difference]) -> Option<bool> {
        let rules: Vec<_> = differences.iter().map(|it| explaining(&self.case(seen, it))).collect();
        let unexplained: Vec<_> =
            differences.iter().zip(&rules).filter(|(_, rule)| rule.is_none()).collect();
        if let Some((first, _)) = unexplained.first() {
            let text: Vec<_> = differences.iter().map(Difference::to_string).collect();
            self.fail(&kind_of(first), &text.join("\n"));
            return None;
        }
        let rules: Vec<_> = rules.into_iter().flatten().collect();
        self.outcome.explained.extend(rules.iter().map(|rule| rule.title));
        Some(rules.iter().any(|rule| rule.parts))
    }

    fn case<'a>(&'a self, seen: &'a [Observation; 2], difference: &'a Difference) -> Case<'a> {
        Case {
            scene: &self.scene,
            configuration: &self.configuration,
            operations: &self.operations,
            difference,
            theirs: &seen[0],
            ours: &seen[1],
        }
    }

    /// Gives everything back, and compares what there was.
    fn finish(&mut self, pair: &mut Pair) {
        pair.sides().into_iter().for_each(Side::end);
        // Guests that held leases are ended for that; what they held is free when they have ended.
        for _ in 0..2 {
            let settled = pair.sides().map(Side::settle);
            eventually_within(END_PERIOD, || pair.theirs.living() == pair.ours.living());
            if settled.iter().any(Result::is_err) {
                break;
            }
        }
        let is_administration = self.operations.iter().any(is_administration);
        let mut held = Vec::new();
        for side in pair.sides() {
            let tidied = release_all(side, &self.operations).and_then(|said| {
                if is_administration {
                    reset_settings(side, &self.scene)?;
                }
                side.settle()?;
                Ok(said)
            });
            held.push(tidied);
        }
        match &held[..] {
            [Err(Gone(how)), _] => {
                self.outcome.theirs_gone = Some(format!("{how}, after\n{}", self.shown()));
            }
            [_, Err(Gone(how))] => self.fail("our daemon is gone", &format!("our daemon: {how}")),
            [Ok(theirs), Ok(ours)] if !self.outcome.has_parted => {
                let difference = Difference::between(Place::Leases, theirs, ours);
                let seen = self.before.clone();
                self.judge(&seen, difference.as_slice());
            }
            _ => {}
        }
        let is_gone = held.iter().any(Result::is_err);
        let have_parted = pair.theirs.connections() != pair.ours.connections();
        self.outcome.is_spent =
            is_gone || have_parted || pair.theirs.has_more_files() || pair.ours.has_more_files();
        pair.sides().into_iter().for_each(Side::clear);
    }

    fn fail(&mut self, kind: &str, text: &str) {
        let text = self.shown() + text;
        self.outcome.failure = Some(Failure { kind: kind.to_owned(), text });
    }

    /// All that was done.
    fn shown(&self) -> String {
        let mut said = String::new();
        for (number, operation) in self.operations.iter().enumerate() {
            writeln!(said, "{:>4} {}", number + 1, shown(operation)).expect("writing to a string");
        }
        said
    }
}

/// A write or a hang-up is about one of the pipes that are open on either side; there may be none.
fn on_open_pipe(operation: Operation, pair: &Pair) -> Option<Operation> {
    let mut open: Vec<usize> =
        pair.theirs.pipes.keys().chain(pair.ours.pipes.keys()).copied().collect();
    open.sort_unstable();
    open.dedup();
    let chosen = |pipe: usize| open.get(pipe % open.len().max(1)).copied().unwrap_or(usize::MAX);
    Some(match operation {
        Operation::Write { pipe, bytes } => Operation::Write { pipe: chosen(pipe), bytes },
        Operation::HangUp { pipe } => Operation::HangUp { pipe: chosen(pipe) },
        other => other,
    })
}

/// Until how long a pause a difference is waited for to go away.
fn patience_ms(rule: Option<&Rule>) -> u64 {
    match rule {
        Some(rule) if rule.parts => 5,
        Some(_) => 0,
        None => u64::MAX,
    }
}

/// Enough to tell one difference from another.
fn kind_of(difference: &Difference) -> String {
    let place = format!("{:?}", difference.place);
    let place = place.split([' ', '(']).next().unwrap_or_default().to_owned();
    let code = |text: &str| {
        let words = text.split_once("code: ").map(|(_, rest)| rest);
        words.and_then(|rest| rest.split(',').next()).unwrap_or("none").to_owned()
    };
    format!("{place}, error {} and {}", code(&difference.theirs), code(&difference.ours))
}

fn shown(operation: &Operation) -> String {
    match operation {
        Operation::Send { client, message, bytes: None } => {
            format!("client {client}: {}", message.said)
        }
        Operation::Send { client, message, bytes: Some(bytes) } => {
            format!("client {client}: {bytes} bytes of {}", message.said)
        }
        Operation::Write { pipe, bytes } => {
            let written = Content::File(bytes.clone());
            format!("guest writes to the pipe of step {pipe}: {written:?}")
        }
        other => format!("{other:?}"),
    }
}
