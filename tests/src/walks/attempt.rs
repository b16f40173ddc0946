//! One attempt at a walk: in namespaces of its own, and what came of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::course::Course;
use super::meetings::Meetings;
use super::step::{self, Step};
use super::tally::Tally;
use crate::harness::eventually_within;

/// No walk takes as long that does not hang, beside what its steps take.
const WALK_PERIOD_MAX: Duration = Duration::from_secs(240);

/// No step takes as long on the average.
const STEP_PERIOD_MAX: Duration = Duration::from_secs(2);

/// Lines of what a daemon or walk has said that are shown.
const SHOWN_LINES: usize = 40;

/// What a walk needs.
#[derive(Debug, Clone)]
pub struct Equipment {
    /// The executable `walker`.
    pub walker: PathBuf,
    /// The executable `stoppable_fs`.
    pub file_system: PathBuf,
    /// The directory of our daemons.
    pub daemons: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Attempt {
    /// `None` when all was as it has to be.
    pub(super) failure: Option<Failure>,
    pub(super) meetings: Meetings,
    pub(super) tally: Tally,
    pub(super) period: Duration,
}

/// What a walker has said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) said: String,
    /// `None` when all was as it has to be.
    pub(super) failure: Option<Failure>,
}

/// Why a walk failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Where in the source, which tells one kind from another.
    pub(super) place: String,
    /// At which step.
    pub(super) step: String,
    /// Everything that was said.
    pub(super) text: String,
}

impl Equipment {
    /// Walks once.
    pub(super) fn attempt(&self, course: Course, steps: &[Step]) -> Attempt {
        self.attempt_with(course, steps, &[])
    }

    /// Walks once, with these variables in the environment.
    pub(super) fn attempt_with(
        &self,
        course: Course,
        steps: &[Step],
        variables: &[(&str, &str)],
    ) -> Attempt {
        let steps_count = u32::try_from(steps.len()).expect("a walk is not as long");
        let period_max = WALK_PERIOD_MAX + STEP_PERIOD_MAX * steps_count;
        let begin = Instant::now();
        let file_system = self.file_system.as_os_str();
        let steps = step::show(steps);
        let words = ["walk".as_ref(), course.name().as_ref(), file_system, steps.as_ref()];
        let Said { said, failure } = self.walker_says(&words, variables, period_max);
        let (meetings, tally) = (meetings(&said), Tally::read(&said));
        Attempt { failure, meetings, tally, period: begin.elapsed() }
    }

    /// Runs a walker with these arguments in namespaces of its own.
    pub(super) fn walker_says(
        &self,
        words: &[&OsStr],
        variables: &[(&str, &str)],
        period_max: Duration,
    ) -> Said {
        let scratch = tempfile::Builder::new().prefix("vw").tempdir().expect("a directory");
        let said = scratch.path().join("said");
        let complained = scratch.path().join("complained");
        let inside = scratch.path().join("t");
        fs::create_dir(&inside).expect("a directory");
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork"])
            .args(["--kill-child", "--mount-proc", "--propagation", "private"])
            .arg(&self.walker)
            .args(words)
            .env("TMPDIR", &inside)
            .env("OURS_DIR", &self.daemons)
            .env("RUST_BACKTRACE", "0")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&said).expect("a file"))
            .stderr(File::create(&complained).expect("a file"))
            .spawn()
            .expect("starting a walk");
        let has_ended =
            eventually_within(period_max, || process.try_wait().expect("waiting").is_some());
        if !has_ended {
            process.kill().expect("ending a walk");
        }
        let status = process.wait().expect("waiting for a walk");
        let (said, complained) = (read(&said), read(&complained));
        let passed = status.success() && said.lines().next_back() == Some("PASSED");
        let failure = (!passed).then(|| Failure::new(&said, &complained, has_ended));
        Said { said, failure }
    }
}

impl Failure {
    fn new(said: &str, complained: &str, has_ended: bool) -> Self {
        let step =
            said.lines().rfind(|line| line.starts_with("STEP ")).unwrap_or("before any step");
        let panicked = complained.lines().find_map(|line| line.split_once("panicked at "));
        let place = match panicked {
            Some((_, place)) => place.trim_end_matches(':').to_owned(),
            None if has_ended => "nowhere".to_owned(),
            None => "a walk that does not end".to_owned(),
        };
        let text = format!("{}\n{}", last_lines(&without_tally(said)), last_lines(complained));
        Self { place, step: step.to_owned(), text }
    }
}

fn meetings(said: &str) -> Meetings {
    let mut meetings = Meetings::default();
    said.lines().filter_map(|line| line.strip_prefix("MET ")).for_each(|met| meetings.parse(met));
    meetings
}

/// What was done, without what is only counted.
fn without_tally(said: &str) -> String {
    let lines: Vec<_> = said.lines().filter(|line| !Tally::is_one(line)).collect();
    lines.join("\n")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
