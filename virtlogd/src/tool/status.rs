//! `virtlogctl status`.

use std::io::Write;

use common::query::{Log, LogState, Status};
use common::tool::{Connect, Failure, Output, print_status};

use super::subject::{DAEMON, SUBJECT};

/// Shows the state of the daemon, and how many logs are not well.
pub(crate) fn status(
    connect: &Connect,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Failure> {
    connect.ask(DAEMON, SUBJECT, |daemon| {
        let json = daemon.status()?;
        if output.json {
            return Ok(writeln!(out, "{json}")?);
        }
        let status: Status = daemon.decode(json)?;
        let (mut open, mut unwell, mut unstored) = (0, 0, 0);
        daemon.each(|log: Log| {
            open += 1;
            unwell += usize::from(log.state != LogState::Ok);
            unstored += usize::from(!log.in_fd_store);
            Ok::<_, Failure>(())
        })?;
        let logs =
            format!("{open} open, {unwell} cannot be written, {unstored} not in the fd store");
        Ok(print_status(&status, &[("Logs", logs)], out)?)
    })
}
