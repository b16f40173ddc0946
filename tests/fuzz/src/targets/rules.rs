//! Rules of `virtlogd.toml`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use common::config::{Error, Toml};
use virtlogd::rotating_file::{BACKUPS_MAX, Limits};
use virtlogd::rules::Rules;

const DEFAULTS: Limits = Limits { size_bytes_max: 1 << 40, backups_max: 3 };

/// An input is a file, a path, a guest's name, and lines of two patterns each, apart by NULs. Any file
/// is read or refused with a place in it. Of rules with the patterns the first holds that a simple
/// matcher finds.
pub(crate) fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |&byte| byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (file, path, domain) = (part(), Path::new(OsStr::from_bytes(part())), part());
    if let Some(rules) = read(file) {
        let most = rules.backups_max(path);
        assert!(rules.limits(path, domain).backups_max <= most && most <= BACKUPS_MAX);
    }
    match_first(path, domain, part());
}

fn read(file: &[u8]) -> Option<Rules> {
    let toml = Toml::new(Path::new("x.toml"), file);
    let lines = 1 + file.iter().filter(|&&byte| byte == b'\n').count();
    match toml.and_then(|toml| Rules::read(&toml, DEFAULTS)) {
        Ok(rules) => Some(rules),
        Err(Error::Toml { line, column, what, .. }) => {
            assert!((1..=lines).contains(&line) && (1..=file.len() + 1).contains(&column));
            assert!(!what.is_empty() && !what.contains('\n'), "{what:?}");
            None
        }
        Err(error) => panic!("not an error of the content: {error}"),
    }
}

fn match_first(path: &Path, domain: &[u8], lines: &[u8]) {
    let patterns: Vec<_> = String::from_utf8_lossy(lines)
        .lines()
        .take(16)
        .filter_map(|line| line.split_once('\t'))
        .filter(|(domain, path)| is_pattern(domain) && is_pattern(path))
        .map(|(domain, path)| (domain.to_owned(), path.to_owned()))
        .collect();
    let tables = patterns.iter().enumerate().map(|(index, (domain, path))| {
        format!("[[rule]]\ndomain = '{domain}'\npath = '{path}'\nmax_size = {index}\n")
    });
    let rules = read(tables.collect::<String>().as_bytes()).expect("rules as they have to be");
    let is_match = |(name, place): &(String, String)| {
        matches(name.as_bytes(), domain) && matches(place.as_bytes(), path.as_os_str().as_bytes())
    };
    let expected =
        patterns.iter().position(is_match).map_or(DEFAULTS.size_bytes_max, |index| index as u64);
    assert_eq!(rules.limits(path, domain).size_bytes_max, expected);
}

fn is_pattern(text: &str) -> bool {
    let is_plain = |sign: char| !"[]{}\\'".contains(sign) && !sign.is_control();
    (1..=255).contains(&text.len()) && text.chars().all(is_plain)
}

/// Follows all places of the pattern at once.
fn matches(pattern: &[u8], bytes: &[u8]) -> bool {
    let mut places = HashSet::from([0]);
    for &byte in bytes {
        places = behind_stars(pattern, &places)
            .into_iter()
            .filter_map(|place| {
                let is_double = pattern.get(place + 1) == Some(&b'*')
                    || (place > 0 && pattern[place - 1] == b'*');
                match pattern.get(place)? {
                    b'*' => (is_double || byte != b'/').then_some(place),
                    b'?' => (byte != b'/').then_some(place + 1),
                    expected => (*expected == byte).then_some(place + 1),
                }
            })
            .collect();
    }
    behind_stars(pattern, &places).contains(&pattern.len())
}

/// Those places, and all that are reached from there by stars that stand for nothing.
fn behind_stars(pattern: &[u8], places: &HashSet<usize>) -> HashSet<usize> {
    let mut all = places.clone();
    for start in places {
        let stars = pattern[*start..].iter().take_while(|&&byte| byte == b'*').count();
        all.extend(*start..=*start + stars);
    }
    all
}
