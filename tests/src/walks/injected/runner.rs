//! Journeys, one for each call that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsStr;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::injection::{Injection, MEMORY, MEMORY_CALLS};
use super::{RECORD, errors};
use crate::harness::Program;
use crate::random::Random;
use crate::walks::attempt::{Equipment, Failure, Said};
use crate::walks::course::Course;

/// The seed where none is given, so that a failure is the change's.
const SEED: u64 = 1;

/// What was found to do harm once.
const FOUND_IN_LOGS: &[&str] = &[
    "1:connect:EINTR:1",
    "1:listen:EADDRINUSE:3",
    "2:socket:EMFILE:3",
    "3:fcntl:F_DUPFD_CLOEXEC:EMFILE:32",
];
const FOUND_IN_LEASES: &[&str] = &[
    "1:connect:EINTR:1",
    "1:mmap:EAGAIN:31",
    "1:openat:EMFILE:40",
    "2:eventfd2:ENODEV:2",
    "2:socket:EMFILE:3",
    "2:statx:ENOMEM:5",
    "3:fcntl:F_DUPFD_CLOEXEC:EMFILE:25",
    "3:newfstatat:ENOMEM:10",
    "3:recvfrom:ENOMEM:1",
];

/// Calls that fail, each in a journey of its own, where no number is given.
const INJECTIONS: usize = 12;

/// Journeys at a time, likewise.
const PARALLEL: usize = 2;

/// No journey takes as long that does not hang.
const JOURNEY_PERIOD_MAX: Duration = Duration::from_secs(180);

/// Failing journeys after which there are no more.
const FAILURES_MAX: usize = 10;

/// One error of a call, and how often the call is made in the process.
#[derive(Debug, Clone)]
struct Case {
    process: usize,
    call: String,
    errno: Errno,
    count: u64,
}

/// Makes as many journeys as the environment says.
///
/// # Panics
/// When one fails, or a call is made whose errors nobody knows.
pub fn run(program: Program, equipment: &Equipment) {
    let begin = Instant::now();
    let cases = cases(program, equipment);
    let injections = injections(program, &cases);
    let results = Results::default();
    std::thread::scope(|scope| {
        for _ in 0..number("VIRT_TESTS_PARALLEL").unwrap_or(PARALLEL) {
            scope.spawn(|| travel_on(program, equipment, &injections, &results));
        }
    });
    let calls: BTreeSet<_> = cases.iter().map(|case| &case.call).collect();
    let pairs: BTreeSet<_> = cases.iter().map(|case| (&case.call, case.errno as i32)).collect();
    let outcomes = results.outcomes.into_inner().expect("no journey has failed to be counted");
    say(&format!(
        "{}: {} calls of {} errors in {} processes, {} places; {} injections in {:.0?}\n{outcomes:#?}\n",
        program.name(),
        calls.len(),
        pairs.len(),
        cases.iter().map(|case| case.process).max().unwrap_or(0),
        cases.iter().map(|case| case.count).sum::<u64>(),
        results.next.into_inner().min(injections.len()),
        begin.elapsed(),
    ));
    let failures = results.failures.into_inner().expect("the same");
    assert!(failures.is_empty(), "{} journeys failed:\n{}", failures.len(), failures.join("\n"));
}

#[derive(Debug, Default)]
struct Results {
    next: AtomicUsize,
    outcomes: Mutex<BTreeMap<String, usize>>,
    failures: Mutex<Vec<String>>,
}

fn travel_on(program: Program, equipment: &Equipment, injections: &[Injection], results: &Results) {
    let failures = || results.failures.lock().expect("nobody fails holding it");
    while failures().len() < number("VIRT_TESTS_FAILURES").unwrap_or(FAILURES_MAX) {
        let index = results.next.fetch_add(1, Ordering::Relaxed);
        let Some(injection) = injections.get(index) else { return };
        let Said { said, failure } = travel(program, equipment, &injection.to_string());
        let mut outcomes = results.outcomes.lock().expect("nobody fails holding it");
        for outcome in outcomes_of(&said) {
            *outcomes.entry(outcome).or_default() += 1;
        }
        drop(outcomes);
        if let Some(failure) = failure {
            let word = word_about(program, injection, &failure);
            say(&word);
            failures().push(word);
        }
    }
}

fn travel(program: Program, equipment: &Equipment, injection: &str) -> Said {
    let words = ["journey", Course::Faults(program).name(), injection];
    equipment.walker_says(&words.map(OsStr::new), &[], JOURNEY_PERIOD_MAX)
}

/// Kinds of what came of it, each once.
fn outcomes_of(said: &str) -> BTreeSet<String> {
    let kinds = said.lines().filter_map(|line| line.strip_prefix("OUTCOME ")?.split(' ').next());
    let mut kinds: BTreeSet<_> = kinds.map(str::to_owned).collect();
    let is_struck = said.lines().any(|line| line.starts_with("STRUCK "));
    kinds.insert(if is_struck { "struck" } else { "not struck" }.to_owned());
    kinds
}

fn word_about(program: Program, injection: &Injection, failure: &Failure) -> String {
    format!(
        "=== VIRT_TESTS_INJECT={injection} cargo test -p tests --test failing_calls {}\nin {}: {}\n",
        program.name(),
        failure.place,
        failure.text
    )
}

/// What can fail, by a journey in which nothing does.
fn cases(program: Program, equipment: &Equipment) -> Vec<Case> {
    let Said { said, failure } = travel(program, equipment, RECORD);
    assert!(failure.is_none(), "a journey without a fault fails: {failure:?}");
    let mut cases = Vec::new();
    let mut memory = BTreeMap::<usize, u64>::new();
    let mut unknown = BTreeSet::new();
    for line in said.lines().filter_map(|line| line.strip_prefix("CALL ")) {
        let (process, rest) = line.split_once(' ').expect("a process");
        let (call, count) = rest.rsplit_once(' ').expect("a call and a number");
        let (process, count) =
            (process.parse().expect("a number"), count.parse().expect("another"));
        if MEMORY_CALLS.contains(&call) {
            *memory.entry(process).or_default() += count;
        }
        let Some(errors) = errors::of(call) else {
            unknown.insert(call.to_owned());
            continue;
        };
        let case = |errno| Case { process, call: call.to_owned(), errno, count };
        cases.extend(errors.into_iter().map(case));
    }
    assert!(unknown.is_empty(), "walks/injected/errors.rs says nothing of {unknown:?}");
    let memory = memory.into_iter();
    let case =
        |(process, count)| Case { process, call: MEMORY.to_owned(), errno: Errno::ENOMEM, count };
    cases.extend(memory.map(case));
    cases
}

/// Those that the environment asks for: all, one, or so many of all.
fn injections(program: Program, cases: &[Case]) -> Vec<Injection> {
    let parse = |text: &str| text.parse().expect("the name of what fails");
    if let Ok(text) = env::var("VIRT_TESTS_INJECT") {
        return text.split(',').map(parse).collect();
    }
    let at = |case: &Case, number| Injection {
        process: case.process,
        call: case.call.clone(),
        errno: case.errno,
        number,
    };
    if env::var("VIRT_TESTS_INJECTIONS").as_deref() == Ok("all") {
        return cases
            .iter()
            .flat_map(|case| (1..=case.count).map(move |number| at(case, number)))
            .collect();
    }
    let mut random = Random::new(number("VIRT_TESTS_SEED").map_or(SEED, |seed| seed as u64));
    let mut cases = cases.to_vec();
    for last in (1..cases.len()).rev() {
        cases.swap(last, random.below(last + 1));
    }
    let found = match program {
        Program::Virtlogd => FOUND_IN_LOGS,
        Program::Virtlockd => FOUND_IN_LEASES,
    };
    let found = found.iter().copied().map(parse);
    let count = number("VIRT_TESTS_INJECTIONS").unwrap_or(INJECTIONS);
    // Each case once, and then each once more.
    let sample = cases.iter().cycle().take(count);
    found.chain(sample.map(|case| at(case, 1 + random.number() % case.count))).collect()
}

fn number(name: &str) -> Option<usize> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text}?")))
}

/// Past the test runner's capture, so that one can follow it.
fn say(text: &str) {
    // A failing stderr leaves nobody to tell.
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
