//! `virtlogctl list`.

use std::io::Write;

use common::query::{Log, LogState};
use common::tool::{Column, Connect, Failure, Json, Output, Table, bytes, escaped, time};

use super::subject::{DAEMON, SUBJECT};

const TEXT: Column = Column { title: "", is_number: false, is_long: false, is_optional: false };
const NUMBER: Column = Column { is_number: true, ..TEXT };
const COLUMNS: [Column; 13] = [
    Column { title: "DOMAIN", is_long: true, ..TEXT },
    Column { title: "STATE", ..TEXT },
    Column { title: "SIZE", ..NUMBER },
    Column { title: "MAX", is_optional: true, ..NUMBER },
    Column { title: "BACKUPS", is_optional: true, ..NUMBER },
    Column { title: "MINUTE", ..NUMBER },
    Column { title: "ROTATED", is_optional: true, ..NUMBER },
    Column { title: "LOST", ..NUMBER },
    Column { title: "STORED", ..TEXT },
    Column { title: "UUID", is_optional: true, ..TEXT },
    Column { title: "PATH", is_long: true, ..TEXT },
    Column { title: "SINCE", is_optional: true, ..TEXT },
    Column { title: "REASON", is_long: true, ..TEXT },
];

/// Lists all logs.
pub(crate) fn list(connect: &Connect, output: Output, out: &mut impl Write) -> Result<(), Failure> {
    connect.ask(DAEMON, SUBJECT, |daemon| {
        if output.json {
            return daemon.each(|log: Json| Ok(writeln!(out, "{log}")?));
        }
        let columns = Output::columns();
        let mut table = Table::new(&COLUMNS);
        daemon.each(|log: Log| {
            table.push(row(&log, columns.is_some()));
            Ok::<_, Failure>(())
        })?;
        Ok(table.print(columns, out)?)
    })
}

/// Returns the name of a state.
pub(crate) fn state(log: &Log) -> &'static str {
    match log.state {
        LogState::Ok => "ok",
        LogState::HeldBack => "held-back",
        LogState::Losing => "losing",
        LogState::Unknown => "unknown",
    }
}

fn row(log: &Log, is_terminal: bool) -> Vec<String> {
    let size = |count: u64| if is_terminal { bytes(count) } else { count.to_string() };
    let none = || "-".to_owned();
    vec![
        escaped(&log.domain.text()),
        state(log).to_owned(),
        size(log.size_bytes),
        size(log.size_bytes_max),
        log.backups_max.to_string(),
        size(log.last_minute_bytes),
        log.rotations.to_string(),
        size(log.lost_bytes),
        if log.in_fd_store { "yes" } else { "no" }.to_owned(),
        escaped(&log.uuid),
        escaped(&log.path.text()),
        log.since_unix_s.map_or_else(none, time),
        log.reason.as_deref().map_or_else(none, escaped),
    ]
}
