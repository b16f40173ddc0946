//! A state document through adoption: what a start does with it, the first jobs, and an upgrade to
//! the next process.

use std::collections::BTreeSet;
use std::sync::Once;

use common::handover::FdSet;
use common::handover::document::{self, Document};
use common::startup::Service;
use common::startup::fuzzing::{Adopted, install_log};
use serde_json::{Map, Value};
use virtlogd::config::Settings;
use virtlogd::rotating_file::Limits;
use virtlogd::rules::Rules;

use super::inheritance::{self, Inheritance};

/// Jobs and events of one process.
const ROUNDS_MAX: usize = 200;

/// As much as anybody counts to.
const CLIENT_NUMBER_MAX: u64 = 1 << 49;

/// Keys whose values differ from process to process, although they say the same.
const CHANGING: [&str; 11] = [
    "pipefd",
    "fd",
    "file",
    "staged",
    "parked",
    "essentials",
    "configuration",
    "pid_file",
    "generation",
    // Of the last attempt to write, which the next process makes anew.
    "reason",
    // Of the file, which the next process's first job opens.
    "rotation_steps_left",
];

pub(crate) fn logs(bytes: &[u8]) {
    adopt::<virtlogd::Handler>(bytes, settings);
}

pub(crate) fn leases(bytes: &[u8]) {
    adopt::<virtlockd::Handler>(bytes, virtlockd::Settings::default);
}

pub(crate) fn settings() -> Settings {
    Settings {
        rules: Rules::none(Limits { size_bytes_max: 300, backups_max: 2 }),
        age_days_max: 0,
        log_root: "/var/log/libvirt".into(),
    }
}

/// No guest's pipe is closed and no lock is dropped, whatever the document says of others; no fd
/// stays open when the process ends; and the next process adopts all that this one had adopted.
fn adopt<S: Service>(bytes: &[u8], settings: impl Fn() -> S::Settings) {
    let Ok(document) = document::read::<Document<'static>>(bytes) else { return };
    log_once();
    let mut misused = misused(bytes);
    if S::NAME != <virtlogd::Handler as Service>::NAME {
        misused.extend(inheritance::GUESTS.map(i64::from));
    }
    let (inheritance, inherited) = Inheritance::new(bytes);
    let first = Adopted::<S>::from_document(document, inherited, settings()).expect("a process");
    go_on(first, &inheritance, &misused, settings);
    inheritance::check_closed();
}

/// Goes on with a process that has adopted a state.
pub(crate) fn go_on<S: Service>(
    mut first: Adopted<S>,
    inheritance: &Inheritance,
    misused: &BTreeSet<i64>,
    settings: impl Fn() -> S::Settings,
) {
    inheritance.check(misused);
    first.advance(ROUNDS_MAX).expect("the loop");
    let fd_set = FdSet::default();
    let text = first.document_text(&fd_set).expect("a document");
    check_clients(&text);
    let numbers = fd_set.numbers();
    let inherited = inheritance::exec((first, fd_set), numbers);
    let document = document::read::<Document<'static>>(text.as_bytes()).expect("our own document");
    let second = Adopted::<S>::from_document(document, inherited, settings()).expect("a process");
    let fd_set = FdSet::default();
    let again = second.document_text(&fd_set).expect("a document");
    if let Some(difference) = difference("", &told(&text), &told(&again)) {
        panic!("the next process says something else: {difference}");
    }
}

/// Every client has a number that no other gets later, and that can be counted on from.
fn check_clients(text: &str) {
    let document: Value = serde_json::from_str(text).expect("JSON");
    for server in document["daemon"]["servers"].as_object().into_iter().flat_map(Map::values) {
        let next = server["next_client_id"].as_u64().expect("a number");
        assert!(next <= CLIENT_NUMBER_MAX, "{next} will overflow");
        let clients = server["clients"].as_array().expect("a list");
        let numbers = clients.iter().map(|client| client["id"].as_u64());
        assert!(numbers.clone().all(|number| number.is_some_and(|number| number < next)));
        assert_eq!(BTreeSet::from_iter(numbers).len(), clients.len(), "one number twice");
    }
}

/// Returns the first difference of two documents.
fn difference(at: &str, one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => one
            .iter()
            .find_map(|(key, value)| difference(&format!("{at}/{key}"), value, &other[key])),
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => one
            .iter()
            .zip(other)
            .zip(0..)
            .find_map(|((one, other), index)| difference(&format!("{at}/{index}"), one, other)),
        _ => (one != other).then(|| format!("{at}: {other}, not {one}")),
    }
}

pub(crate) fn log_once() {
    static LOG: Once = Once::new();
    LOG.call_once(|| install_log().expect("a log"));
}

/// Content of a document, without numbers that change and the order of its lists.
fn told(text: &str) -> Value {
    let mut document = serde_json::from_str(text).expect("JSON");
    strip(&mut document);
    document
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(strip);
            items.sort_by_cached_key(Value::to_string);
        }
        Value::Object(fields) => {
            fields.retain(|key, value| {
                !CHANGING.contains(&key.as_str()) && value != "" && !may_have_log_file(key, value)
            });
            fields.values_mut().for_each(strip);
        }
        _ => {}
    }
}

/// Whether these may be log outputs with a file. One that is not open in time is opened at its first
/// write; the next process refuses it if it cannot be opened, and has none then.
fn may_have_log_file(key: &str, value: &Value) -> bool {
    key == "log_outputs" && value.as_str().is_none_or(|outputs| outputs.contains("file:"))
}

/// Returns the numbers that a document uses for other things than guests' pipes and leases.
pub(crate) fn misused(bytes: &[u8]) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    if let Ok(document) = document::read::<Value>(bytes) {
        collect(&document, "", &mut found);
    }
    found
}

fn collect(value: &Value, key: &str, found: &mut BTreeSet<i64>) {
    match value {
        Value::Number(number) if key != "pipefd" => found.extend(number.as_i64()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| collect(value, key, found));
        }
        _ => {}
    }
}
