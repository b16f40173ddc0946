//! Documents that name tests name such as there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const THREAT_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.github/SECURITY.md");

/// Where a test of each name lies, as a file or a directory.
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// Fewer mean that names are not recognised any more.
const NAMES_MIN: usize = 50;

#[test]
fn every_test_of_the_threat_model_exists() {
    let text = fs::read_to_string(THREAT_MODEL).unwrap();
    let named = named(&text);
    assert!(named.len() >= NAMES_MIN, "only {} tests are named", named.len());
    let missing: Vec<_> = named.into_iter().filter(|(file, test)| !exists(file, test)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Code spans of the form `` `file::test` ``, whether there is such a test or not.
fn named(text: &str) -> BTreeSet<(&str, &str)> {
    let codes = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    codes.filter_map(|code| code.split_once("::")).collect()
}

fn exists(file: &str, test: &str) -> bool {
    let definition = format!("fn {test}(");
    let has_it = |path: PathBuf| fs::read_to_string(path).is_ok_and(|it| it.contains(&definition));
    sources(&Path::new(TESTS).join(file)).into_iter().any(has_it)
}

/// The sources of a test binary, which is a file or a directory.
fn sources(stem: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(stem).into_iter().flatten();
    let parts = entries.map(|entry| entry.expect("an entry of a directory of tests").path());
    parts.chain([stem.with_extension("rs")]).collect()
}

#[test]
fn names_are_told_from_other_code() {
    let text = "`one::a_1`, `two::b` `x` `c-d::e-f`\n`three::c` not::this";
    let expected = [("one", "a_1"), ("two", "b"), ("c-d", "e-f"), ("three", "c")];
    assert_eq!(named(text), BTreeSet::from(expected));
    assert!(exists("project/named_tests", "names_are_told_from_other_code"));
    assert!(!exists("project/named_tests", "names_are"));
    assert!(exists("fd_store", "stand_in"));
}
