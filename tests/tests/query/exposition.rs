//! A strict reader of both text formats: OpenMetrics, and the older one of Prometheus, which
//! node_exporter reads. Anything out of the ordinary is a failure of the test.

use std::collections::{BTreeMap, BTreeSet};

/// Which format is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    OpenMetrics,
    Prometheus,
}

/// Labels of a sample.
pub(crate) type Labels = BTreeMap<String, String>;

/// Samples, by their name and labels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exposition {
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
    /// Types of families.
    pub(crate) types: BTreeMap<String, String>,
}

/// The family whose lines are being read.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    unit: String,
    samples: usize,
}

impl Exposition {
    pub(crate) fn read(text: &str, format: Format) -> Self {
        let mut lines = text.strip_suffix('\n').expect("a newline at the end");
        if format == Format::OpenMetrics {
            lines = lines.strip_suffix("\n# EOF").expect("a mark at the end");
        }
        let (mut exposition, mut family) = (Self::default(), Family::default());
        for line in lines.split('\n') {
            match line.strip_prefix("# ") {
                Some(descriptor) => family.describe(descriptor, format, &mut exposition),
                None => exposition.add(line, &mut family, format),
            }
        }
        family.end();
        exposition.check_histograms();
        exposition
    }

    /// The value of a sample, with labels as in `name{a="b"}`.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        let (name, labels) = series_of(series);
        let value = self.samples.get(&(name, labels));
        *value.unwrap_or_else(|| panic!("{series} is missing in {:#?}", self.samples))
    }

    fn add(&mut self, line: &str, family: &mut Family, format: Format) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("a value: {line:?}"));
        let (name, labels) = series_of(series);
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("a number: {line}"));
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let suffix = name.strip_prefix(&family.name).unwrap_or_else(|| panic!("apart: {line}"));
        let suffixes: &[&str] = match (&*family.kind, format) {
            ("counter", Format::OpenMetrics) => &["_total"],
            ("counter", Format::Prometheus) | ("gauge", _) => &[""],
            ("histogram", _) => &["_sum", "_count", "_bucket"],
            (kind, _) => panic!("type {kind:?} of {line}"),
        };
        assert!(suffixes.contains(&suffix), "{line}");
        assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
        family.samples += 1;
        assert_eq!(self.samples.insert((name, labels), value), None, "twice: {line}");
    }

    /// Buckets are cumulative, in the order of their bounds, and the last one counts all.
    fn check_histograms(&self) {
        let histograms = self.types.iter().filter(|(_, kind)| *kind == "histogram");
        for (name, _) in histograms {
            let of =
                |bound: &str| if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            let mut buckets: Vec<(f64, f64)> = self
                .samples
                .iter()
                .filter(|((sample, _), _)| *sample == format!("{name}_bucket"))
                .map(|((_, labels), count)| (of(&labels["le"]), *count))
                .collect();
            buckets.sort_by(|one, other| one.partial_cmp(other).unwrap());
            assert!(
                buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1),
                "{buckets:?}"
            );
            assert_eq!(
                *buckets.last().unwrap(),
                (f64::INFINITY, self.value(&format!("{name}_count")))
            );
        }
    }
}

impl Family {
    fn describe(&mut self, descriptor: &str, format: Format, exposition: &mut Exposition) {
        let mut words = descriptor.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("three words: {descriptor}"));
        let (what, name, rest) = (word(), word(), word());
        if what == "HELP" {
            self.end();
            assert!(is_name(name) && !exposition.types.contains_key(name), "{descriptor}");
            assert!(!rest.is_empty() && !rest.contains(['\\', '"']), "{descriptor}");
            *self = Self { name: name.to_owned(), ..Self::default() };
            return;
        }
        assert!(name == self.name && self.samples == 0, "out of order: {descriptor}");
        match what {
            "TYPE" => {
                assert!(exposition.types.insert(name.to_owned(), rest.to_owned()).is_none());
                let is_total = name.ends_with("_total");
                let has_total = rest == "counter" && format == Format::Prometheus;
                assert_eq!(is_total, has_total, "{descriptor}");
                rest.clone_into(&mut self.kind);
            }
            "UNIT" => {
                assert_eq!(format, Format::OpenMetrics);
                assert!(
                    !self.kind.is_empty() && name.ends_with(&format!("_{rest}")),
                    "{descriptor}"
                );
                rest.clone_into(&mut self.unit);
            }
            other => panic!("{other}: {descriptor}"),
        }
    }

    fn end(&self) {
        assert!(self.name.is_empty() || !self.kind.is_empty(), "{self:?}");
        assert!(self.name.is_empty() || self.samples > 0, "{self:?}");
    }
}

/// Name and labels of `name{a="b",c="d"}`.
pub(crate) fn series_of(series: &str) -> (String, Labels) {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    assert!(is_name(name), "{series}");
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("an end: {series}"));
    let mut seen = BTreeSet::new();
    let labels = labels.split_terminator(',').map(|label| {
        let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("a value: {series}"));
        let value = value.strip_suffix('"').unwrap_or_else(|| panic!("quotes: {series}"));
        assert!(is_name(key) && !value.contains(['"', '\\']) && seen.insert(key), "{series}");
        (key.to_owned(), value.to_owned())
    });
    (name.to_owned(), labels.collect())
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()) && !text.is_empty()
}

mod tests {
    use super::{Exposition, Format};

    const GOOD: &str = "# HELP a_bytes Text\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
        a_bytes_total{x=\"1\"} 5\n# EOF\n";

    #[test]
    fn what_is_wrong_is_found() {
        let read = |text: &str| {
            let text = text.to_owned();
            std::panic::catch_unwind(move || Exposition::read(&text, Format::OpenMetrics))
        };
        assert_eq!(read(GOOD).unwrap().value("a_bytes_total{x=\"1\"}"), 5.0);
        for (from, to) in [
            ("# EOF\n", ""),
            ("# EOF", "# EOF\n"),
            ("counter", "count"),
            ("_total", ""),
            (" 5", " five"),
            (" 5", " -5"),
            (" 5", ""),
            ("x=\"1\"", "x=1"),
            ("# TYPE a_bytes counter\n", ""),
            ("# HELP a_bytes Text\n", ""),
            ("a_bytes bytes", "a_bytes seconds"),
            ("# EOF", "a_bytes_total{x=\"1\"} 5\n# EOF"),
            ("# EOF", "# HELP a_bytes Text\n# TYPE a_bytes counter\na_bytes_total 1\n# EOF"),
            ("# EOF", "b 1\n# EOF"),
            ("a_bytes_total", "A_bytes_total"),
        ] {
            assert!(
                GOOD.contains(from) && read(&GOOD.replacen(from, to, 1)).is_err(),
                "{from}: {to}"
            );
        }
    }
}
