//! `virtlockctl list`.

use std::io::Write;

use common::query::{Lease, Proof, Reach};
use common::tool::{Column, Connect, Failure, Json, Output, Table, escaped, time};

use super::subject::{DAEMON, SUBJECT};

const TEXT: Column = Column { title: "", is_number: false, is_long: false, is_optional: false };
const COLUMNS: [Column; 12] = [
    Column { title: "DOMAIN", is_long: true, ..TEXT },
    Column { title: "PID", is_number: true, ..TEXT },
    Column { title: "MODE", ..TEXT },
    Column { title: "LOCK", ..TEXT },
    Column { title: "LACKS", ..TEXT },
    Column { title: "REACH", ..TEXT },
    Column { title: "PROOF", ..TEXT },
    Column { title: "SINCE", is_optional: true, ..TEXT },
    Column { title: "STORED", ..TEXT },
    Column { title: "UUID", is_optional: true, ..TEXT },
    Column { title: "LOCKSPACE", is_optional: true, is_long: true, ..TEXT },
    Column { title: "IMAGE", is_long: true, ..TEXT },
];

/// Lists all leases.
pub(crate) fn list(connect: &Connect, output: Output, out: &mut impl Write) -> Result<(), Failure> {
    connect.ask(DAEMON, SUBJECT, |daemon| {
        if output.json {
            return daemon.each(|lease: Json| Ok(writeln!(out, "{lease}")?));
        }
        let mut table = Table::new(&COLUMNS);
        daemon.each(|lease: Lease| {
            table.push(row(&lease));
            Ok::<_, Failure>(())
        })?;
        Ok(table.print(Output::columns(), out)?)
    })
}

/// Returns the name of a lease's mode.
pub(crate) fn mode(lease: &Lease) -> &'static str {
    if lease.shared { "shared" } else { "exclusive" }
}

/// Returns since when a holder has a lease.
pub(crate) fn since(lease: &Lease) -> String {
    let before = if lease.held_before { "before " } else { "" };
    format!("{before}{}", time(lease.since_unix_s))
}

/// Returns whether a lease on shared storage is known to be held, in a word.
pub(crate) fn proof(lease: &Lease) -> &'static str {
    match (lease.reach, lease.proof) {
        (Reach::Host, _) => "-",
        (_, Some(Proof::Proved)) => "yes",
        (_, Some(Proof::Unproved)) => "no",
        (_, Some(Proof::Doubtful)) => "doubtful",
        (_, Some(Proof::Lost)) => "lost",
        (_, Some(Proof::Unknown) | None) => "unknown",
    }
}

fn row(lease: &Lease) -> Vec<String> {
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { escaped(text) };
    vec![
        text(&lease.domain.text()),
        lease.pid_here.unwrap_or(lease.pid).to_string(),
        mode(lease).to_owned(),
        text(&lease.lock),
        text(lease.lacks.as_deref().unwrap_or_default()),
        text(lease.file_system.as_deref().unwrap_or("host")),
        proof(lease).to_owned(),
        since(lease),
        if lease.in_fd_store { "yes" } else { "no" }.to_owned(),
        text(&lease.uuid),
        text(&lease.lockspace.text()),
        text(&lease.path.text()),
    ]
}
