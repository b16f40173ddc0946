//! The table of calls is about those that are tried here, and the other way round.

use std::collections::BTreeSet;
use std::fs;

use super::cases::CASES;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../common/SYSTEM_CALLS.md");

#[test]
fn every_call_of_the_table_is_tried() {
    let text = fs::read_to_string(TABLE).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let documented: BTreeSet<_> =
        rows.flat_map(|(calls, _)| calls.split(", ")).map(|call| call.trim_matches('`')).collect();
    let tried: BTreeSet<_> = CASES.iter().map(|(call, _)| *call).collect();
    assert_eq!(documented, tried);
}
