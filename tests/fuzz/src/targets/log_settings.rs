//! Filters and outputs of the daemon's own log.

use std::path::{Component, Path};

use common::logging::{Destination, FILTERS_MAX, Filters, OUTPUTS_MAX, Outputs};

use super::input::Input;

/// Categories that are matched, as long as the reference can take.
const CATEGORY_BYTES_MAX: usize = 24;

/// A setting that is accepted says the same when it is written again; filters decide as a simple
/// search does; outputs are distinct and files' paths absolute.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let category = String::from_utf8_lossy(input.bytes()).into_owned();
    let setting = String::from_utf8_lossy(input.rest());
    match kind & 1 {
        0 => filters(&setting, &category),
        _ => outputs(&setting),
    }
}

fn filters(setting: &str, category: &str) {
    let Ok(filters) = Filters::parse(setting) else { return };
    let items = filters.items();
    assert!(items.len() <= FILTERS_MAX && filters.count() == items.len());
    let again = Filters::parse(&filters.to_string()).expect("what was written");
    // Each time that it is read it gets further stars, which change nothing.
    let is_short = category.len() <= CATEGORY_BYTES_MAX && setting.len() <= 64;
    for category in ["daemon", "rpc.netserver"].into_iter().chain(is_short.then_some(category)) {
        assert_eq!(filters.level(category), again.level(category));
        if is_short {
            let found = items.iter().map(|item| item.split_once(':').expect("an item"));
            let found = found.clone().find(|(_, pattern)| matches(pattern, category));
            let level = found.map(|(level, _)| level.to_owned());
            assert_eq!(filters.level(category).map(|level| level.number().to_string()), level);
        }
    }
}

/// Matches by dynamic programming: which beginnings of the text the pattern so far can be.
fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for expected in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        let mut is_reached = false;
        for end in 0..=text.len() {
            is_reached |= reached[end];
            next[end] = match expected {
                '*' => is_reached,
                '?' => end > 0 && reached[end - 1],
                letter => end > 0 && reached[end - 1] && text[end - 1] == letter,
            };
        }
        reached = next;
    }
    reached[text.len()]
}

fn outputs(setting: &str) {
    let Ok(outputs) = Outputs::parse(setting, Path::new("/base/directory")) else { return };
    assert!(outputs.count() <= OUTPUTS_MAX);
    for (index, output) in outputs.iter().enumerate() {
        let mut others = outputs.iter().skip(index + 1);
        assert!(others.all(|other| other.destination != output.destination), "one twice");
        if let Destination::File(path) = &output.destination {
            assert!(path.is_absolute());
            let mut parts = path.components();
            assert!(parts.all(|part| !matches!(part, Component::ParentDir | Component::CurDir)));
        }
    }
    let again = Outputs::parse(&outputs.to_string(), Path::new("/")).expect("what was written");
    assert_eq!(again, outputs);
}
