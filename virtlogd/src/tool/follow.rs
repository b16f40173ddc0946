//! `virtlogctl follow`: what a log gets from now on, across its rotations.
//!
//! It looks at the files alone, so it neither delays the daemon nor ends with it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use common::tool::{Connect, Failure, escaped};

use super::all::{self, AllOptions};
use super::find::Name;
use super::parts::{Part, Parts};
use super::show::Shown;

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(200);

/// Lines that are printed at first.
const LINES: u64 = 10;

/// Logs to be followed.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name or uuid of a guest, or path of a log
    #[arg(value_name = "DOMAIN|PATH", required_unless_present = "all", conflicts_with = "all")]
    name: Option<OsString>,
    /// Begin with the last N lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = LINES, conflicts_with = "all")]
    lines: u64,
    #[command(flatten)]
    all: AllOptions,
}

/// A part that is being followed.
struct Follower {
    path: PathBuf,
    part: Part,
    offset: u64,
}

/// Prints a log, or all, as they grow, until it is ended or nobody reads.
pub(crate) fn follow(
    connect: &Connect,
    options: &Options,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let Some(name) = options.name.clone() else {
        return all::follow_all(connect, &options.all, out);
    };
    let path = Name { name }.file(connect)?;
    let failed = |error| Failure::of_file(&path, &error);
    let parts = Parts::open(&path).map_err(failed)?;
    let start = parts.start_of_lines(options.lines).map_err(failed)?;
    let mut out = Shown::new(out);
    let (part, offset) = parts.split(start, |part, from| part.copy(from, &mut out))?;
    let mut follower = Follower { path, part, offset };
    loop {
        follower.look(&mut out)?;
        out.flush()?;
        thread::sleep(PERIOD);
    }
}

impl Follower {
    /// Prints what there is now.
    fn look(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        // Asked first: once the path leads elsewhere, nothing is added to this part.
        let is_current = self.part.is_at(&self.path);
        self.offset = self.part.copy(self.offset, out)?;
        if !is_current {
            return self.go_on(out);
        }
        if self.part.size()? < self.offset {
            self.tell("the log was truncated");
            self.offset = self.part.copy(0, out)?;
        }
        Ok(())
    }

    /// Goes on with the parts behind this one.
    fn go_on(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        let parts = match Parts::open(&self.path) {
            Ok(parts) => parts,
            // It may be back later.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Failure::of_file(&self.path, &error)),
        };
        let (parts, is_known) = parts.behind(&self.part);
        if parts.is_empty() {
            return Ok(());
        }
        if !is_known {
            self.tell("the log was begun anew, or rotated so often that something was missed");
        }
        (self.part, self.offset) = parts.split(0, |part, from| part.copy(from, out))?;
        Ok(())
    }

    fn tell(&self, what: &str) {
        // A failure here cannot be reported anywhere.
        writeln!(io::stderr(), "virtlogctl: {}: {what}", shown(&self.path)).ok();
    }
}

fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}
