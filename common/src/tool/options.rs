//! Options of both tools.

use std::io::{IsTerminal, stdout};

use clap::Args;

use super::daemon::Daemon;
use super::failure::Failure;
use super::uri::{Place, place};
use crate::client;

const CONNECT_HELP: &str =
    "Ask this daemon: NAME:///system, NAME:///session, either with ?socket=PATH";

/// Daemon to be asked.
#[derive(Debug, Clone, Args)]
pub struct Connect {
    /// URI of the daemon to ask, as virt-admin has it.
    #[arg(short, long, value_name = "URI", global = true, help = CONNECT_HELP)]
    connect: Option<String>,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

impl Connect {
    /// Calls `ask` with the daemon `name`, which tells of `what`.
    ///
    /// # Errors
    /// Those of `ask`. That the daemon knows nothing of our program has a text of its own.
    pub fn ask<T>(
        &self,
        name: &str,
        what: &'static str,
        ask: impl FnOnce(&mut Daemon) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let place = place(name, self.connect.as_deref(), |name| std::env::var_os(name));
        let Place { socket, uri } = place.map_err(Failure::Other)?;
        let asked = Daemon::connect(&socket).map_err(Failure::from).and_then(|mut it| ask(&mut it));
        asked.map_err(|failure| match failure {
            Failure::Client(client::Error::UnknownProgram { socket }) => {
                Failure::Libvirt { socket, what, uri }
            }
            other => other,
        })
    }
}

impl Output {
    /// Returns the columns of the terminal that is printed to, if it is one.
    #[must_use]
    pub fn columns() -> Option<usize> {
        let stdout = stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        set.or_else(|| crate::sys::terminal::columns(&stdout))
    }
}
