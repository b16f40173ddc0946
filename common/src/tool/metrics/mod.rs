//! Metrics of a daemon, for Prometheus and what understands OpenMetrics.

mod families;
mod textfile;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use self::families::Families;
use super::daemon::Daemon;
use super::failure::Failure;
use crate::query::Counters;

/// Form and place of metrics.
#[derive(Debug, Args)]
pub struct Metrics {
    /// Write them into this file, as node_exporter reads it, and replace that at one stroke
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
}

impl Metrics {
    /// Prints the metrics of a daemon in the text format of OpenMetrics, or writes them into the file, in
    /// the format of Prometheus.
    ///
    /// # Errors
    /// As [`Daemon::counters`], [`Failure::Output`], and [`Failure::Other`] for the file.
    pub fn print(&self, daemon: &mut Daemon, out: &mut impl Write) -> Result<(), Failure> {
        let counters = daemon.counters()?;
        match &self.textfile {
            None => Ok(out.write_all(open_metrics(counters)?.as_bytes())?),
            Some(path) => textfile::replace(path, prometheus(counters)?.as_bytes()),
        }
    }
}

fn open_metrics(counters: Counters) -> Result<String, Failure> {
    encoded(counters, text::encode)
}

/// Returns the metrics in the older format, which node_exporter reads. There counters are declared with
/// their ending `_total`, and units are not.
fn prometheus(counters: Counters) -> Result<String, Failure> {
    encoded(counters, prometheus_text::encode)
}

fn encoded(
    counters: Counters,
    encode: impl FnOnce(&mut String, &Registry) -> fmt::Result,
) -> Result<String, Failure> {
    let mut registry = Registry::with_prefix(counters.daemon.clone());
    registry.register_collector(Box::new(Families(counters)));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Failure::Other(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
