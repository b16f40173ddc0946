//! Many walks, several at a time, and the word about them.

use std::env;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::attempt::{Equipment, Failure};
use super::meetings::Meetings;
use super::plan::{Leave, plan};
use super::shrink::shrink;
use super::step::{self, Event, Fault, Step};
use crate::harness::{Program, Subject, Whose, left_out};

/// The first seed where none is given, so that a failure is the change's.
const SEED: u64 = 1;

/// Walks where no number is given, and steps of each.
const WALKS: usize = 16;
const STEPS: usize = 30;
const PARALLEL: usize = 2;

/// Failing walks after which there are no more.
const FAILURES_MAX: usize = 5;

/// How long a failing walk is made shorter.
const SHRINK_PERIOD_S: usize = 120;

/// How it is walked.
#[derive(Debug)]
struct Settings {
    walks: usize,
    steps: usize,
    seed: u64,
    parallel: usize,
    failures_max: usize,
    shrink_period: Duration,
    leave: Leave,
    replay: Option<Vec<Step>>,
}

/// Walks as often as the environment says.
///
/// # Panics
/// When a walk fails.
pub fn run(program: Program, equipment: &Equipment) {
    let settings = Settings::from_environment(program);
    let begin = Instant::now();
    let results = Results::default();
    std::thread::scope(|scope| {
        for _ in 0..settings.parallel {
            scope.spawn(|| walk_on(program, equipment, &settings, &results));
        }
    });
    let count = results.done.load(Ordering::Relaxed);
    let met = results.met.into_inner().expect("no walk has failed to be counted");
    say(&format!(
        "{}: {count} walks of {} steps from seed {} in {:.0?} ({:.1?} each on the average)\n{met}\
         each event met each fault {} times at least\n",
        program.name(),
        settings.steps,
        settings.seed,
        begin.elapsed(),
        results.period.into_inner().expect("the same") / u32::try_from(count.max(1)).unwrap_or(1),
        met.fewest()
    ));
    let failures = results.failures.into_inner().expect("the same");
    assert!(failures.is_empty(), "{} walks failed:\n{}", failures.len(), failures.join("\n"));
}

#[derive(Debug, Default)]
struct Results {
    next: AtomicUsize,
    done: AtomicUsize,
    met: Mutex<Meetings>,
    period: Mutex<Duration>,
    failures: Mutex<Vec<String>>,
}

fn walk_on(program: Program, equipment: &Equipment, settings: &Settings, results: &Results) {
    loop {
        let number = results.next.fetch_add(1, Ordering::Relaxed);
        let has_failed = || {
            results.failures.lock().expect("nobody fails holding it").len() >= settings.failures_max
        };
        if number >= settings.walks || has_failed() {
            return;
        }
        let seed = settings.seed.wrapping_add(number as u64);
        let steps = match &settings.replay {
            Some(steps) => steps.clone(),
            None => plan(program, seed, settings.steps, &settings.leave),
        };
        let attempt = equipment.attempt(program, &steps);
        results.met.lock().expect("nobody fails holding it").add_all(&attempt.meetings);
        *results.period.lock().expect("nobody fails holding it") += attempt.period;
        results.done.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = attempt.failure {
            let word = word_about(program, equipment, settings, seed, &steps, failure);
            results.failures.lock().expect("nobody fails holding it").push(word);
        }
    }
}

fn word_about(
    program: Program,
    equipment: &Equipment,
    settings: &Settings,
    seed: u64,
    steps: &[Step],
    failure: Failure,
) -> String {
    say(&format!("{} seed {seed} fails at {}: {}\n", program.name(), failure.step, failure.text));
    let shortest = shrink(equipment, program, steps, failure, settings.shrink_period);
    [
        format!("=== {} seed {seed}", program.name()),
        format!("steps: {}", step::show(steps)),
        format!("shortest: {}", step::show(&shortest.steps)),
        format!("at {}, in {}", shortest.failure.step, shortest.failure.place),
        shortest.failure.text + "\n",
    ]
    .join("\n")
}

impl Settings {
    fn from_environment(program: Program) -> Self {
        let number = |name: &str, otherwise: usize| {
            let text = env::var(name).ok();
            text.map_or(otherwise, |text| {
                text.parse().unwrap_or_else(|_| panic!("{name}: {text}?"))
            })
        };
        let seed = match env::var("VIRT_TESTS_SEED").ok().as_deref() {
            None => SEED,
            Some("fresh") => fresh_seed(),
            Some(text) => text.parse().expect("VIRT_TESTS_SEED is a number or 'fresh'"),
        };
        let replay = env::var("VIRT_TESTS_REPLAY").ok();
        let replay = replay.map(|text| step::parse(&text).expect("VIRT_TESTS_REPLAY has steps"));
        let shrink_s = number("VIRT_TESTS_SHRINK_S", SHRINK_PERIOD_S);
        Self {
            walks: number("VIRT_TESTS_WALKS", WALKS),
            steps: number("VIRT_TESTS_STEPS", STEPS),
            seed,
            parallel: number("VIRT_TESTS_PARALLEL", PARALLEL),
            failures_max: number("VIRT_TESTS_FAILURES", FAILURES_MAX),
            shrink_period: Duration::from_secs(shrink_s as u64),
            leave: leave(program),
            replay,
        }
    }
}

/// What the environment, or this machine, leaves out.
fn leave(program: Program) -> Leave {
    let mut leave = Leave::default();
    let names = env::var("VIRT_TESTS_WITHOUT");
    for name in names.unwrap_or_default().split(',') {
        match (Fault::named(name), Event::named(name)) {
            (Some(fault), _) => leave.faults.push(fault),
            (_, Some(event)) => leave.events.push(event),
            _ => assert!(name.is_empty(), "VIRT_TESTS_WITHOUT: what is '{name}'?"),
        }
    }
    if let Err(reason) = (Subject { whose: Whose::Theirs, program }).executable() {
        left_out("walks by way of libvirt's daemon", &reason);
        leave.events.push(Event::Libvirt);
    }
    leave
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() << 20
}

/// Past the test runner's capture, so that one can follow it.
fn say(text: &str) {
    // A failing stderr leaves nobody to tell.
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
