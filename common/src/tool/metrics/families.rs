//! Families of metrics: names, types and help of what a daemon counts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::query::{
    Counters, Durations, FdStore, LeaseCounters, LogCounters, ServerCounters, StorageCounters,
};

/// What a daemon counts.
#[derive(Debug)]
pub(super) struct Families(pub(super) Counters);

/// A label of a sample, and its value.
type Label<'a> = (&'static str, &'a str);

/// Encoder of families, whose names get the daemon's as their prefix.
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Collector for Families {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (counters, mut encoder) = (&self.0, Encoder(encoder));
        process(counters, &mut encoder)?;
        servers(&counters.servers, &mut encoder)?;
        fd_store(counters, &mut encoder)?;
        storage(&counters.storage, &mut encoder)?;
        counters.logs.iter().try_for_each(|counters| logs(counters, &mut encoder))?;
        counters.leases.iter().try_for_each(|counters| leases(counters, &mut encoder))
    }
}

fn process(counters: &Counters, to: &mut Encoder<'_>) -> fmt::Result {
    let labels = [("version", &*counters.version), ("libvirt_version", &*counters.libvirt_version)];
    let help = "Version of the daemon, and of libvirt whose behaviour it reproduces";
    to.family("build_info", help, None, MetricType::Gauge)?
        .encode_family(&labels)?
        .encode_gauge(&1_u64)?;
    let help = "Time since which the present program serves and counts";
    let since = counters.since_unix_s;
    to.family("start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?.encode_gauge(&since)?;
    let outcomes = [("done", counters.upgrades.done), ("failed", counters.upgrades.failed)];
    let help = "Upgrades: done since the process began, failed since the last one that was done";
    to.counters("upgrades", help, None, "outcome", outcomes)
}

fn servers(servers: &BTreeMap<String, ServerCounters>, to: &mut Encoder<'_>) -> fmt::Result {
    let of = |value: fn(&ServerCounters) -> u64| {
        servers.iter().map(move |(name, counters)| (&**name, value(counters)))
    };
    to.gauges("clients", "Connected clients", "server", of(|it| it.clients))?;
    to.gauges("clients_max", "Clients that may be connected", "server", of(|it| it.clients_max))?;
    let mut counter = |name, help, value| to.counters(name, help, None, "server", of(value));
    counter("clients_admitted", "Clients that were admitted", |it| it.admitted)?;
    counter("clients_refused", "Connections that were closed at once", |it| it.refused)?;
    let help = "Clients that the daemon has closed for a fault, or for want of memory";
    counter("clients_closed", help, |it| it.closed)?;
    let help = "Times that further clients had to wait, as the limit was reached";
    counter("clients_limit_reached", help, |it| it.full)
}

fn fd_store(counters: &Counters, to: &mut Encoder<'_>) -> fmt::Result {
    let FdStore { fds, fds_max, is_complete } = counters.fd_store.clone().unwrap_or_default();
    to.gauge("fd_store_fds", "Descriptors in the supervisor's fd store", fds)?;
    let help = "Descriptors that the fd store takes; 0 without one";
    to.gauge("fd_store_fds_max", help, fds_max)?;
    let help = "Whether everything is in the fd store that should outlive a crash";
    to.gauge("fd_store_complete", help, is_complete.into())?;
    let help = "Times that an item found no room in the fd store";
    to.counter("fd_store_refusals", help, None, counters.fd_store_refusals)
}

fn storage(storage: &StorageCounters, to: &mut Encoder<'_>) -> fmt::Result {
    to.gauge("storage_hanging", "File systems that do not answer", storage.hanging)?;
    let help = "Logs or leases with work that waits for a file system that does not answer";
    to.gauge("storage_waiting", help, storage.waiting_jobs)?;
    let help = "Guests that keep their pipe locked and hold up their own log";
    to.gauge("guests_blocking", help, storage.blocking_peers)
}

fn logs(logs: &LogCounters, to: &mut Encoder<'_>) -> fmt::Result {
    to.gauge("logs", "Open logs", logs.open)?;
    to.gauge("logs_failing", "Open logs that could not be written the last time", logs.failing)?;
    to.counter("logs_opened", "Logs that guests have opened", None, logs.opened)?;
    let bytes = Some(&Unit::Bytes);
    to.counter("read", "Bytes taken from guests' pipes", bytes, logs.read_bytes)?;
    to.counter("written", "Bytes written to logs", bytes, logs.written_bytes)?;
    let lost = logs.lost_bytes.iter().map(|(reason, lost)| (&**reason, *lost));
    to.counters("lost", "Bytes of guests that were dropped", bytes, "reason", lost)?;
    to.counter("loss_lines", "Lines in logs about losses", None, logs.loss_lines)?;
    to.counter("rotations", "Rotations of logs", None, logs.rotations)?;
    let help = "Attempts to write a log that have failed";
    to.counter("write_errors", help, None, logs.write_errors)?;
    let help = "Time to write what a log got in one turn, from its first write to the end";
    to.histogram("write_turn", help, &logs.turns)
}

fn leases(leases: &LeaseCounters, to: &mut Encoder<'_>) -> fmt::Result {
    to.gauge("leases", "Leases, counted for each holder", leases.held)?;
    let help = "Leases that lack a part of their lock";
    to.gauge("leases_incomplete", help, leases.incomplete)?;
    to.gauge("leases_shared", "Leases on storage of several hosts", leases.shared)?;
    let help = "Leases on storage of several hosts whose server does not answer";
    to.gauge("leases_unproved", help, leases.unproved)?;
    let help = "Leases that another host may have had meanwhile";
    to.counter("leases_doubted", help, None, leases.doubted)?;
    to.counter("acquisitions", "Leases that were acquired", None, leases.acquired)?;
    to.counter("releases", "Leases that were released by their holder", None, leases.released)?;
    let help = "Leases that have ended otherwise, mostly with their holder";
    to.counter("leases_ended", help, None, leases.ended)?;
    let refused = leases.refused.iter().map(|(reason, count)| (&**reason, *count));
    to.counters("refusals", "Calls that were refused", None, "reason", refused)
}

impl Encoder<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Iterator<Item = (&'l str, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, None, MetricType::Gauge)?;
        for (key, value) in values {
            let labels: [Label<'_>; 1] = [(label, key)];
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let mut family = self.family(name, help, unit, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &'static str,
        values: impl IntoIterator<Item = (&'l str, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, unit, MetricType::Counter)?;
        for (key, value) in values {
            let labels: [Label<'_>; 1] = [(label, key)];
            let mut sample = family.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// Encodes durations in seconds.
    fn histogram(&mut self, name: &str, help: &str, durations: &Durations) -> fmt::Result {
        let Durations { bounds_us, counts, sum_us } = durations;
        let seconds = |us: &u64| Duration::from_micros(*us).as_secs_f64();
        let bounds = bounds_us.iter().map(seconds).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.iter().copied()).collect();
        let count = buckets.iter().map(|(_, count)| *count).sum();
        let mut family = self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(seconds(sum_us), count, &buckets, None)
    }
}
