//! Many sequences: as a test starts them, in namespaces of their own, and as they are played there.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::pair::{Configuration, Pair};
use super::sequence::{Failure, Outcome, play};
use super::step::{self, Step, plan};
use crate::harness::{CONFINEMENT, Program};
use crate::shortest::shortest;

/// Sequences where no number is given, and the first one's seed.
const SEQUENCES: u64 = 2_000;
const SEED: u64 = 1;

/// Sequences that a pair of daemons plays.
const SEQUENCES_OF_PAIR: usize = 200;

/// Failing sequences after which there are no more.
const FAILURES_MAX: u64 = 5;

/// How long a failing sequence is made shorter.
const SHRINK_S: u64 = 60;

/// Ends of libvirt's daemon of which it is said how they came about.
const ENDS_SHOWN: usize = 5;

/// Runs inside the new namespaces: `$1` scratch directory; the rest is executed.
const SCRIPT: &str = r#"
set -e
mount -n -t tmpfs tmpfs "$1"
mkdir -p "$1/t" "$1/run" "$1/log"
mount -n --bind "$1/run" /run
mount -n --bind "$1/log" /var/log
"#;

/// Plays as many sequences as the environment says.
///
/// # Panics
/// When a difference is not explained, or our daemon ends.
pub fn run(program: Program, player: &Path, daemons: &Path) {
    let number = |name, otherwise| number_from(name).unwrap_or(otherwise);
    let seed = match env::var("VIRT_TESTS_SEED").ok().as_deref() {
        Some("fresh") => fresh_seed(),
        _ => number("VIRT_TESTS_SEED", SEED),
    };
    let count = number("VIRT_TESTS_SEQUENCES", SEQUENCES);
    let scratch = tempfile::Builder::new().prefix("vs").tempdir().expect("a directory");
    let numbers = [seed.to_string(), count.to_string()];
    let mut child = start(program, player, daemons, scratch.path(), &numbers);
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("its output is a pipe")).lines() {
        let line = line.expect("a line of the player");
        say(&format!("{}: {line}\n", program.name()));
        lines.push(line);
    }
    let status = child.wait().expect("waiting for the player");
    let has_passed = status.success() && lines.last().is_some_and(|line| line == "PASSED");
    assert!(has_passed, "{status}:\n{}", lines.join("\n"));
}

/// Plays, in namespaces that are private already, and says on standard output what came of it.
///
/// # Panics
/// When the machine is not safe from it.
pub(crate) fn play_many(program: &str, seed: u64, count: u64) {
    refuse_unless_confined();
    let programs = [Program::Virtlogd, Program::Virtlockd];
    let program = programs.into_iter().find(|it| it.name() == program).expect("a program");
    let mut player = Player::new(program);
    if let Ok(steps) = env::var("VIRT_TESTS_REPLAY") {
        player.sequence(seed, &step::parse(&steps).expect("VIRT_TESTS_REPLAY has steps"));
    } else {
        for seed in seed..seed.saturating_add(count) {
            player.sequence(seed, &plan(program, seed));
            if player.failures >= player.failures_max {
                break;
            }
        }
    }
    player.conclude();
}

struct Player {
    program: Program,
    pair: Option<Pair>,
    tally: BTreeMap<String, usize>,
    sequences: usize,
    steps: usize,
    answers: usize,
    ends: usize,
    failures: u64,
    failures_max: u64,
    begin: Instant,
}

impl Player {
    fn new(program: Program) -> Self {
        Self {
            program,
            pair: None,
            tally: BTreeMap::new(),
            sequences: 0,
            steps: 0,
            answers: 0,
            ends: 0,
            failures: 0,
            failures_max: number_from("VIRT_TESTS_FAILURES").unwrap_or(FAILURES_MAX),
            begin: Instant::now(),
        }
    }

    fn sequence(&mut self, seed: u64, steps: &[Step]) {
        let configuration = Configuration::of(seed / SEQUENCES_OF_PAIR as u64);
        let mut pair = match self.pair.take() {
            Some(pair) if pair.configuration == configuration => pair,
            _ => Pair::start(self.program, configuration),
        };
        let number = pair.played;
        let outcome = play(&mut pair, self.program, steps, number);
        self.count(&outcome);
        let is_fit = outcome.theirs_gone.is_none() && outcome.failure.is_none();
        if is_fit && !outcome.is_spent && pair.played < SEQUENCES_OF_PAIR {
            self.pair = Some(pair);
        }
        if let Some(how) = outcome.theirs_gone {
            self.ends += 1;
            let end = how.lines().next().unwrap_or_default();
            *self.tally.entry(format!("libvirt's daemon: {end}")).or_default() += 1;
            if self.ends <= ENDS_SHOWN {
                println!("seed {seed}: libvirt's daemon: {how}");
            }
        }
        if let Some(failure) = outcome.failure {
            self.failures += 1;
            self.show(seed, configuration, steps, failure);
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        self.sequences += 1;
        self.steps += outcome.steps;
        self.answers += outcome.answers;
        for title in &outcome.explained {
            *self.tally.entry(format!("row: {title}")).or_default() += 1;
        }
    }

    fn show(&self, seed: u64, configuration: Configuration, steps: &[Step], failure: Failure) {
        println!("seed {seed}, {configuration:?}: {}\n{}", failure.kind, failure.text);
        let shrink_s = number_from("VIRT_TESTS_SHRINK_S").unwrap_or(SHRINK_S);
        let end = Instant::now() + Duration::from_secs(shrink_s);
        let (steps, failure) = shortest(steps, failure, end, |steps, like| {
            let mut pair = Pair::start(self.program, configuration);
            let failure = play(&mut pair, self.program, steps, 0).failure;
            failure.filter(|failure| failure.kind == like.kind)
        });
        println!("shortest: VIRT_TESTS_SEED={seed} VIRT_TESTS_REPLAY='{}'", step::show(&steps));
        println!("{}\n{}", failure.kind, failure.text);
    }

    fn conclude(self) {
        let Self { sequences, steps, answers, failures, .. } = self;
        let period = self.begin.elapsed();
        println!("{sequences} sequences, {steps} steps, {answers} answers in {period:.1?}");
        for (what, count) in &self.tally {
            println!("{count:>9} {what}");
        }
        if failures == 0 {
            println!("PASSED");
        }
    }
}

/// Whatever the daemons are made to do, nothing is there that they, or the player, could harm.
fn refuse_unless_confined() {
    for path in ["/", "/usr", "/etc"] {
        let flags = statvfs(path).expect("a file system").flags();
        let is_safe = flags.contains(FsFlags::ST_RDONLY);
        assert!(is_safe, "{path} can be written: this is no place to play in");
    }
    let device = |path: &Path| fs::metadata(path).expect("a mount").dev();
    let scratch = env::temp_dir();
    let own = scratch.parent().expect("the scratch directory").join("dev");
    assert!(own.exists(), "there is no private /dev: this is no place to play in");
    assert_eq!(device(Path::new("/dev")), device(&own), "/dev is not private");
}

fn start(
    program: Program,
    player: &Path,
    daemons: &Path,
    scratch: &Path,
    numbers: &[String],
) -> std::process::Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork"])
        .args(["--kill-child", "--mount-proc", "--propagation", "private"])
        .args(["bash", "-c", &format!("{SCRIPT}\n{CONFINEMENT}\nshift\nexec \"$@\""), "bash"])
        .arg(scratch)
        .arg(player)
        .args(["sequences", program.name()])
        .args(numbers)
        .env("TMPDIR", scratch.join("t"))
        .env("OURS_DIR", daemons)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starting the player")
}

fn number_from(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text}?")))
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
