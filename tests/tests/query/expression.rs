//! Expressions of alerts: as much of `PromQL` as our file of alerts has, and Prometheus' own word on
//! them, where `promtool` is installed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use tests::harness::left_out;

use super::exposition::{Exposition, Labels};

/// What Prometheus has scraped, ten minutes ago and now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scrapes<'a> {
    pub(crate) before: &'a Exposition,
    pub(crate) now: &'a Exposition,
}

/// Whether an expression has a sample. Prometheus must agree.
#[track_caller]
pub(crate) fn is_true(expression: &str, scrapes: Scrapes<'_>) -> bool {
    let mut parts = expression.split(" and ").map(|part| compared(part, scrapes));
    let first = parts.next().expect("a part");
    let found = parts.fold(first, |all, next| all.intersection(&next).cloned().collect());
    !found.is_empty()
}

/// The labels of the samples for which a comparison is true.
fn compared(comparison: &str, scrapes: Scrapes<'_>) -> BTreeSet<Labels> {
    let (left, bound) = comparison.rsplit_once(' ').expect("a number");
    let (value, operator) = left.rsplit_once(' ').expect("an operator");
    let bound: f64 = bound.parse().expect("a number");
    let is_met = |value: f64| match operator {
        ">" => value > bound,
        "==" => value == bound,
        other => panic!("{other} in {comparison}"),
    };
    let samples = values(value, scrapes).into_iter();
    samples.filter(|(_, value)| is_met(*value)).map(|(labels, _)| labels).collect()
}

fn values(value: &str, scrapes: Scrapes<'_>) -> Vec<(Labels, f64)> {
    let range = value.strip_prefix("increase(").and_then(|value| value.strip_suffix("[10m])"));
    let Some(selector) = range else { return selected(value, scrapes.now) };
    let before = selected(selector, scrapes.before);
    let increased = |(labels, now): (Labels, f64)| {
        let before = before.iter().find(|(it, _)| *it == labels).map_or(now, |(_, before)| *before);
        // A count that has fallen began anew.
        (labels, if now >= before { now - before } else { now })
    };
    selected(selector, scrapes.now).into_iter().map(increased).collect()
}

/// The samples of `name{a="b",c!="d"}`.
fn selected(selector: &str, from: &Exposition) -> Vec<(Labels, f64)> {
    let (name, matchers) = selector.split_once('{').unwrap_or((selector, "}"));
    let matchers = matchers.strip_suffix('}').expect("an end").split_terminator(',');
    let matchers: Vec<_> = matchers.map(|matcher| matcher.split_once('=').expect("=")).collect();
    let is_meant = |labels: &Labels| {
        matchers.iter().all(|(label, value)| {
            let found = labels.get(label.trim_end_matches('!')).map_or("", String::as_str);
            (found == value.trim_matches('"')) != label.ends_with('!')
        })
    };
    let named: Vec<_> = from.samples.iter().filter(|((it, _), _)| it == name).collect();
    assert!(!named.is_empty(), "there is no metric {name}");
    let meant = named.into_iter().filter(|((_, labels), _)| is_meant(labels));
    meant.map(|((_, labels), value)| (labels.clone(), *value)).collect()
}

/// Has Prometheus evaluate an expression on the same scrapes.
pub(crate) fn check_with_promtool(expression: &str, scrapes: Scrapes<'_>, is_true: bool) {
    let mut series = String::new();
    for ((name, labels), now) in &scrapes.now.samples {
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let before = scrapes.before.samples.get(&(name.clone(), labels_of(&labels)));
        let (before, labels) = (before.unwrap_or(now), labels.join(","));
        // Ten minutes of 15 s each, the last of them as it is now.
        writeln!(
            series,
            "      - series: '{name}{{{labels}}}'\n        values: '{before}x38 {now} {now}'"
        )
        .unwrap();
    }
    expect_of_promtool(expression, &series, is_true);
}

fn labels_of(labels: &[String]) -> Labels {
    let pairs = labels.iter().filter_map(|label| label.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// The same with series as a test of `promtool` has them, at the tenth minute.
pub(crate) fn expect_of_promtool(expression: &str, series: &str, is_true: bool) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.yml");
    let samples = if is_true { "[{labels: '{}', value: 1}]" } else { "[]" };
    let text = format!(
        "evaluation_interval: 15s\ntests:\n  - interval: 15s\n    input_series:\n{series}    \
         promql_expr_test:\n      - expr: 'clamp_max(count({expression}), 1)'\n        \
         eval_time: 10m\n        exp_samples: {samples}\n"
    );
    fs::write(&file, &text).unwrap();
    match Command::new("promtool").args(["test", "rules"]).arg(&file).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}{output:?}\n{text}");
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            left_out("Prometheus' word on an alert", "promtool is not installed");
        }
        Err(error) => panic!("promtool: {error}"),
    }
}
