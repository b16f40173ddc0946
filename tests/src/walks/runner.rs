//! Many walks, several at a time, and the word about them.

use std::env;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::attempt::{Equipment, Failure};
use super::course::Course;
use super::meetings::Meetings;
use super::plan::{Leave, plan};
use super::shrink::shrink;
use super::step::{self, Event, Fault, Step};
use super::tally::Tally;
use crate::harness::{Subject, Whose, left_out};

/// The first seed where none is given, so that a failure is the change's.
const SEED: u64 = 1;

/// Walks where no number is given, and steps of each.
const FAULTS_WALKS: (usize, usize) = (16, 30);
const RIVALS_WALKS: (usize, usize) = (5, 150);

/// Walks at a time, likewise.
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
pub fn run(course: Course, equipment: &Equipment) {
    let settings = Settings::from_environment(course);
    let begin = Instant::now();
    let results = Results::default();
    std::thread::scope(|scope| {
        for _ in 0..settings.parallel {
            scope.spawn(|| walk_on(course, equipment, &settings, &results));
        }
    });
    let count = results.done.load(Ordering::Relaxed);
    let met = results.met.into_inner().expect("no walk has failed to be counted");
    let tally = results.tally.into_inner().expect("the same");
    say(&format!(
        "{}: {count} walks of {} steps from seed {} in {:.0?} ({:.1?} each on the average)\n{}\n",
        course.name(),
        settings.steps,
        settings.seed,
        begin.elapsed(),
        results.period.into_inner().expect("the same") / u32::try_from(count.max(1)).unwrap_or(1),
        match course {
            Course::Faults(_) => {
                format!("{met}each event met each fault {} times at least", met.fewest())
            }
            Course::Rivals(_) => tally.to_string(),
        }
    ));
    let failures = results.failures.into_inner().expect("the same");
    assert!(failures.is_empty(), "{} walks failed:\n{}", failures.len(), failures.join("\n"));
}

/// Walks once more what has failed once: `steps` as they were shown.
///
/// # Panics
/// When it fails again, or what is given are no steps.
pub fn replay(course: Course, equipment: &Equipment, steps: &str) {
    let steps = step::parse(steps).expect("steps");
    let attempt = equipment.attempt(course, &steps);
    assert!(attempt.failure.is_none(), "{:?}", attempt.failure);
}

#[derive(Debug, Default)]
struct Results {
    next: AtomicUsize,
    done: AtomicUsize,
    met: Mutex<Meetings>,
    tally: Mutex<Tally>,
    period: Mutex<Duration>,
    failures: Mutex<Vec<String>>,
}

fn walk_on(course: Course, equipment: &Equipment, settings: &Settings, results: &Results) {
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
            None => settings.plan(course, seed),
        };
        let attempt = equipment.attempt(course, &steps);
        results.met.lock().expect("nobody fails holding it").add_all(&attempt.meetings);
        results.tally.lock().expect("nobody fails holding it").add_all(&attempt.tally);
        *results.period.lock().expect("nobody fails holding it") += attempt.period;
        results.done.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = attempt.failure {
            let word = word_about(course, equipment, settings, seed, &steps, failure);
            results.failures.lock().expect("nobody fails holding it").push(word);
        }
    }
}

fn word_about(
    course: Course,
    equipment: &Equipment,
    settings: &Settings,
    seed: u64,
    steps: &[Step],
    failure: Failure,
) -> String {
    say(&format!("{} seed {seed} fails at {}: {}\n", course.name(), failure.step, failure.text));
    let shortest = shrink(equipment, course, steps, failure, settings.shrink_period);
    [
        format!("=== {} seed {seed}", course.name()),
        format!("steps: {}", step::show(steps)),
        format!("shortest: {}", step::show(&shortest.steps)),
        format!("at {}, in {}", shortest.failure.step, shortest.failure.place),
        shortest.failure.text + "\n",
    ]
    .join("\n")
}

impl Settings {
    fn plan(&self, course: Course, seed: u64) -> Vec<Step> {
        match course {
            Course::Faults(program) => plan(program, seed, self.steps, &self.leave),
            Course::Rivals(mode) => mode.plan(seed, self.steps),
        }
    }

    fn from_environment(course: Course) -> Self {
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
        let (walks, steps) = match course {
            Course::Faults(_) => FAULTS_WALKS,
            Course::Rivals(_) => RIVALS_WALKS,
        };
        Self {
            walks: number("VIRT_TESTS_WALKS", walks),
            steps: number("VIRT_TESTS_STEPS", steps),
            seed,
            parallel: number("VIRT_TESTS_PARALLEL", PARALLEL),
            failures_max: number("VIRT_TESTS_FAILURES", FAILURES_MAX),
            shrink_period: Duration::from_secs(shrink_s as u64),
            leave: leave(course),
            replay,
        }
    }
}

/// What the environment, or this machine, leaves out.
fn leave(course: Course) -> Leave {
    let mut leave = Leave::default();
    let Course::Faults(program) = course else { return leave };
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
