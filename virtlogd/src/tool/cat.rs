//! `virtlogctl cat`: a log across its rotations.

use std::io::Write;

use clap::Args;
use common::tool::{Connect, Failure};

use super::find::Name;
use super::parts::Parts;
use super::show::Shown;

/// Log, and the part of it to be printed.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    name: Name,
    /// Print the last N bytes only
    #[arg(long, value_name = "N", conflicts_with_all = ["lines", "all"])]
    bytes: Option<u64>,
    /// Print the last N lines only
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "all")]
    lines: Option<u64>,
    /// Print everything that there is; the default
    #[arg(long)]
    all: bool,
}

/// Prints a log as it is now.
pub(crate) fn cat(
    connect: &Connect,
    options: &Options,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let path = options.name.file(connect)?;
    let failed = |error| Failure::of_file(&path, &error);
    let parts = Parts::open(&path).map_err(failed)?;
    let start = match (options.bytes, options.lines) {
        (Some(bytes), _) => parts.len().saturating_sub(bytes),
        (None, Some(lines)) => parts.start_of_lines(lines).map_err(failed)?,
        (None, None) => 0,
    };
    parts.split(start, |part, from| part.copy_opened(from, &mut Shown::new(&mut *out)))?;
    Ok(())
}
