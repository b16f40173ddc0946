//! `virtlockctl status`.

use std::io::Write;

use common::query::{Lease, Proof, Reach, Status};
use common::tool::{Connect, Failure, Output, print_status};

use super::subject::{DAEMON, SUBJECT};

/// Shows the state of the daemon, and how many leases are not whole.
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
        let (mut held, mut posix, mut incomplete, mut unstored) = (0, 0, 0, 0);
        let (mut shared, mut unproved) = (0, 0);
        daemon.each(|lease: Lease| {
            held += 1;
            posix += usize::from(lease.lock == "posix");
            incomplete += usize::from(lease.lacks.is_some());
            unstored += usize::from(!lease.in_fd_store);
            shared += usize::from(lease.reach == Reach::Shared);
            let is_unproved = matches!(lease.proof, Some(Proof::Unproved | Proof::Doubtful | Proof::Lost));
            unproved += usize::from(is_unproved);
            Ok::<_, Failure>(())
        })?;
        let leases = format!(
            "{held} held, {posix} by POSIX locks, {incomplete} lack a part of their lock, {unstored} not in the \
             fd store"
        );
        let of_shared = format!("{shared} leases, {unproved} of them not proved, doubtful or lost");
        let more = [("Leases", leases), ("Shared storage", of_shared)];
        let more = if shared > 0 { &more[..] } else { &more[..1] };
        Ok(print_status(&status, more, out)?)
    })
}
