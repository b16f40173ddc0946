//! Targets: what is done with an input, and what has to hold. Neither libFuzzer nor its build is
//! needed here, so that the suite replays the corpus on the ordinary build.

mod adoption;
mod arguments;
mod configuration;
mod connection;
mod framing;
pub(crate) mod inheritance;
mod input;
mod journal;
mod log_settings;
mod peer;
mod query;
mod records;
mod recovery;
mod rotation;
mod rules;

/// A target. It panics when something does not hold.
pub(crate) struct Target {
    /// Its name, which is that of its folder in the corpus.
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// Its inputs are JSON documents.
    #[allow(dead_code, reason = "the replay changes no input")]
    pub(crate) is_json: bool,
}

const fn binary(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, is_json: false }
}

const fn json(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, is_json: true }
}

/// All targets.
pub(crate) const ALL: [Target; 13] = [
    json("adoption_leases", adoption::leases),
    json("adoption_logs", adoption::logs),
    binary("arguments", arguments::run),
    binary("configuration", configuration::run),
    binary("connection", connection::run),
    binary("framing", framing::run),
    binary("journal", journal::run),
    binary("log_settings", log_settings::run),
    binary("query", query::run),
    binary("records", records::run),
    json("recovery", recovery::run),
    binary("rotation", rotation::run),
    binary("rules", rules::run),
];
