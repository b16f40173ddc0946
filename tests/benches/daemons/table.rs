//! Measures contenders in turn.

use std::time::{Duration, Instant};

use tests::harness::{self, Program, Subject, Whose};

use crate::report::{Figures, Report};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// libvirt's daemon.
    Theirs,
    /// The daemon of this workspace.
    Ours,
    /// Something else that does the same work, by name.
    Peer(&'static str),
}

/// The daemons.
const DAEMONS: [Contender; 2] = [Contender::Theirs, Contender::Ours];

/// What is hoped for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    Max(f64),
    Min(f64),
    /// A multiple of libvirt's figure.
    MaxTimesTheirs(f64),
    MinTimesTheirs(f64),
    /// A multiple of the first peer's figure.
    MaxTimesPeer(f64),
    /// A multiple of our figure in an earlier row.
    MaxTimesRow(f64, &'static str),
    MinTimesRow(f64, &'static str),
}

/// One figure of a measurement: its name with its unit, and what is hoped for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row(pub(crate) &'static str, pub(crate) &'static [Wanted]);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) title: &'a str,
    /// The daemon that is measured.
    pub(crate) program: Program,
    pub(crate) rows: &'a [Row],
    /// Who takes turns with the two daemons.
    pub(crate) peers: &'a [Contender],
    pub(crate) rounds_max: usize,
}

/// A figure for each row, or why there is none.
pub(crate) type Outcome = Result<Vec<f64>, String>;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Bench {
    quick: bool,
    markdown: bool,
    words: Vec<String>,
    available: Vec<(Program, Contender)>,
    report: Report,
    started: Instant,
}

impl Bench {
    /// Reads the command line and looks for daemons.
    pub(crate) fn new(arguments: &[String]) -> Self {
        let words = arguments.iter().filter(|word| !word.starts_with("--")).cloned().collect();
        let mut available = Vec::new();
        for program in [Program::Virtlogd, Program::Virtlockd] {
            for contender in DAEMONS {
                let name = format!("measuring {}", program.name());
                harness::run(contender.subject(program), &name, |_| {
                    available.push((program, contender));
                });
            }
        }
        println!("{}", machine());
        println!("Medians of alternating rounds (least to most), and what ours is of others'.");
        let has = |option| arguments.iter().any(|word| word == option);
        let (quick, markdown) = (has("--quick"), has("--markdown"));
        let (report, started) = (Report::default(), Instant::now());
        Self { quick, markdown, words, available, report, started }
    }

    /// `full`, or a part of it in a quick run.
    pub(crate) fn scaled(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(4) } else { full }
    }

    /// A time to measure for.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_millis(if self.quick { 150 } else { 500 })
    }

    /// One or the other time.
    pub(crate) fn quick_or(&self, quick: Duration, full: Duration) -> Duration {
        if self.quick { quick } else { full }
    }

    /// Measures `rows` unless the command line asks for something else: `work` returns a figure
    /// for each, once a round for each contender.
    pub(crate) fn measure(
        &mut self,
        title: &str,
        program: Program,
        rows: &[Row],
        peers: &[Contender],
        mut work: impl FnMut(Contender) -> Vec<f64>,
    ) {
        let case = Case { title, program, rows, peers, rounds_max: usize::MAX };
        self.run(&case, |contender| Ok(work(contender)));
    }

    /// As [`Self::measure`], where `work` may say why there is nothing to measure; that contender
    /// has no turns any more.
    pub(crate) fn run(&mut self, case: &Case<'_>, mut work: impl FnMut(Contender) -> Outcome) {
        if !self.words.is_empty() && !self.words.iter().any(|word| case.title.contains(word)) {
            return;
        }
        println!("\n{}", case.title);
        let started = Instant::now();
        let mut figures: Vec<(Contender, Vec<Vec<f64>>)> =
            self.contenders(case).map(|contender| (contender, Vec::new())).collect();
        for _ in 0..case.rounds_max.min(if self.quick { 3 } else { 5 }) {
            figures.retain_mut(|(contender, rounds)| match work(*contender) {
                Ok(round) => {
                    rounds.push(round);
                    true
                }
                Err(reason) => {
                    println!("  {} IS LEFT OUT: {reason}", contender.name());
                    false
                }
            });
        }
        for (index, row) in case.rows.iter().enumerate() {
            let of_row = figures.iter().map(|(contender, rounds)| {
                (*contender, rounds.iter().map(|round| round[index]).collect())
            });
            self.report.row(case.title, row, &of_row.collect::<Vec<Figures>>());
        }
        println!("  ({:.1} s)", started.elapsed().as_secs_f64());
    }

    /// Says how it went.
    pub(crate) fn end(self) {
        if self.markdown {
            self.report.print_markdown();
        }
        let seconds = self.started.elapsed().as_secs();
        println!("\n{seconds} s, {} figures miss what was hoped for.", self.report.missed());
    }

    fn contenders(&self, case: &Case<'_>) -> impl Iterator<Item = Contender> {
        let is_available = |&daemon: &Contender| self.available.contains(&(case.program, daemon));
        DAEMONS.into_iter().filter(is_available).chain(case.peers.iter().copied())
    }
}

impl Row {
    /// Rates and shares are better when they are higher, everything else is a cost.
    pub(crate) fn more_is_better(&self) -> bool {
        ["MiB/s", "per s", "% of the mean"].iter().any(|unit| self.0.ends_with(unit))
    }
}

impl Contender {
    /// The daemon of this contender.
    pub(crate) fn subject(self, program: Program) -> Subject {
        let whose = match self {
            Self::Theirs => Whose::Theirs,
            Self::Ours => Whose::Ours,
            Self::Peer(name) => panic!("{name} is no daemon"),
        };
        Subject { whose, program }
    }

    pub(crate) fn is_theirs(self) -> bool {
        self == Self::Theirs
    }

    pub(crate) fn is_ours(self) -> bool {
        self == Self::Ours
    }

    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Peer(_))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Theirs => "C",
            Self::Ours => "ours",
            Self::Peer(name) => name,
        }
    }
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{count} CPUs, {}, Linux {}", model.unwrap_or("unknown"), kernel.trim())
}
