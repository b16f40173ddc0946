//! Measures contenders in turn and prints what came out, a line for each figure.

use std::time::{Duration, Instant};

use tests::harness::{self, Program, Subject, Whose, left_out};

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
pub(crate) const DAEMONS: [Contender; 2] = [Contender::Theirs, Contender::Ours];

/// What is hoped for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    Max(f64),
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

/// A contender's figures of one row, round by round.
type Figures = (Contender, Vec<f64>);

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Bench {
    quick: bool,
    words: Vec<String>,
    available: Vec<(Program, Contender)>,
    ours: Vec<(&'static str, f64)>,
    missed: usize,
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
        println!("Medians of alternating rounds, (least to most); ratio ours to C's, as well.");
        let quick = arguments.iter().any(|word| word == "--quick");
        let started = Instant::now();
        Self { quick, words, available, ours: Vec::new(), missed: 0, started }
    }

    /// `full`, or a part of it in a quick run.
    pub(crate) fn scaled(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(4) } else { full }
    }

    /// A time to measure for.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_millis(if self.quick { 150 } else { 500 })
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
        if !self.words.is_empty() && !self.words.iter().any(|word| title.contains(word)) {
            return;
        }
        println!("\n{title}");
        let started = Instant::now();
        let daemons = DAEMONS.iter().filter(|&&daemon| self.available.contains(&(program, daemon)));
        let contenders: Vec<_> = daemons.chain(peers).copied().collect();
        let mut figures: Vec<(Contender, Vec<Vec<f64>>)> =
            contenders.into_iter().map(|contender| (contender, Vec::new())).collect();
        for _ in 0..if self.quick { 2 } else { 5 } {
            for (contender, rounds) in &mut figures {
                rounds.push(work(*contender));
            }
        }
        for (index, row) in rows.iter().enumerate() {
            let of_row = figures.iter().map(|(contender, rounds)| {
                (*contender, rounds.iter().map(|round| round[index]).collect())
            });
            self.print(row, &of_row.collect::<Vec<Figures>>());
        }
        println!("  ({:.1} s)", started.elapsed().as_secs_f64());
    }

    /// Says how it went.
    pub(crate) fn end(self) {
        let seconds = self.started.elapsed().as_secs();
        println!("\n{seconds} s, {} figures miss what was hoped for.", self.missed);
    }

    fn print(&mut self, row: &Row, figures: &[Figures]) {
        let Row(name, wanted) = *row;
        let mut line = format!("  {name:<36}");
        for (contender, values) in figures {
            line.push_str(&format!("  {} {}", contender.name(), spread(values)));
        }
        let theirs = values(figures, |it| it == Contender::Theirs);
        if let Some(ours) = values(figures, Contender::is_ours) {
            if let Some(theirs) = theirs {
                line.push_str(&format!("  ratio {}", short(median_ratio(ours, theirs))));
            }
            for want in wanted {
                line.push_str(&self.verdict(*want, figures));
            }
            self.ours.push((name, median(ours)));
        }
        println!("{line}");
    }

    /// Whether our median is as wanted, in words; without the other figure nobody can say.
    fn verdict(&mut self, wanted: Wanted, figures: &[Figures]) -> String {
        let Some(ours) = values(figures, Contender::is_ours) else { return String::new() };
        let to = |other: Option<&[f64]>| other.map(|other| median_ratio(ours, other));
        let to_theirs = || to(values(figures, |it| it == Contender::Theirs));
        let to_peer = || to(values(figures, Contender::is_peer));
        let to_row = |name| {
            let earlier = self.ours.iter().find(|(row, _)| *row == name);
            earlier.map(|(_, earlier)| median(ours) / earlier)
        };
        let (sign, bound, unit, figure) = match wanted {
            Wanted::Max(max) => ("<=", max, "", Some(median(ours))),
            Wanted::MaxTimesTheirs(max) => ("<=", max, " of C", to_theirs()),
            Wanted::MinTimesTheirs(min) => (">=", min, " of C", to_theirs()),
            Wanted::MaxTimesPeer(max) => ("<=", max, " of the first peer", to_peer()),
            Wanted::MaxTimesRow(max, row) => ("<=", max, " of that alone", to_row(row)),
            Wanted::MinTimesRow(min, row) => (">=", min, " of that alone", to_row(row)),
        };
        let holds = figure.map(|it| if sign == "<=" { it <= bound } else { it >= bound });
        self.missed += usize::from(holds == Some(false));
        let verdict = holds.map_or("?", |holds| if holds { "yes" } else { "NO" });
        format!("  {sign} {bound}{unit}: {verdict}")
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

    fn is_ours(self) -> bool {
        self == Self::Ours
    }

    fn is_peer(self) -> bool {
        matches!(self, Self::Peer(_))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Theirs => "C",
            Self::Ours => "ours",
            Self::Peer(name) => name,
        }
    }
}

/// Whether a program of another maker is installed; says so if not.
pub(crate) fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    if !found {
        left_out(name, "it is not installed");
    }
    found
}

/// The figures of the first contender of that kind.
fn values(figures: &[Figures], kind: impl Fn(Contender) -> bool) -> Option<&[f64]> {
    figures.iter().find(|(contender, _)| kind(*contender)).map(|(_, values)| &values[..])
}

/// The median of the rounds' ratios, as neighbours in time are alike.
fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

fn spread(values: &[f64]) -> String {
    let sorted = sorted(values);
    let [least, most] = [sorted.first(), sorted.last()].map(|it| it.map_or(f64::NAN, |it| *it));
    let [middle, least, most] = [median(values), least, most].map(short);
    format!("{middle} ({least} to {most})")
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Three figures are all that such measurements are worth.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{count} CPUs, {}, Linux {}", model.unwrap_or("unknown"), kernel.trim())
}
