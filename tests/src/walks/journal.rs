//! What a daemon's journal in the fd store says, read apart from the daemon's own code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::supervisor::Stored;

/// The key under which everything of our own stands.
const PRIVATE: &str = "virt-rs";

/// Hexadecimal digits of a line's checksum.
const SUM_DIGITS: usize = 16;

/// Names of the fds that a journal speaks of, made of a letter and a key: logs `l`, leases `r`,
/// clients `c`.
pub(super) type Claims = BTreeSet<String>;

/// What the newest complete journal claims; `None` when there is none.
pub(super) fn claims(stored: &[Stored]) -> Option<Claims> {
    let number = |stored: &Stored| u64::from_str_radix(stored.name.strip_prefix('j')?, 16).ok();
    let journals = stored.iter().filter_map(|stored| Some((number(stored)?, stored)));
    let mut journals: Vec<_> = journals.collect();
    journals.sort_by_key(|&(number, _)| std::cmp::Reverse(number));
    journals.into_iter().find_map(|(_, stored)| read(stored))
}

fn read(stored: &Stored) -> Option<Claims> {
    let file = File::from(stored.fd.try_clone().ok()?);
    let mut bytes = vec![0; usize::try_from(file.metadata().ok()?.len()).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').map_while(content);
    let mut items = items_of(&lines.next()?);
    for change in lines {
        let Some(key) = change["key"].as_u64() else { continue };
        let kind = [("log", 'l'), ("lease", 'r'), ("client", 'c')];
        let kind = kind.into_iter().find(|(field, _)| change[field].is_object());
        match kind {
            Some((_, letter)) => drop(items.insert(key, letter)),
            None => drop(items.remove(&key)),
        }
    }
    Some(items.into_iter().map(|(key, letter)| format!("{letter}{key:x}")).collect())
}

/// The JSON of a line that is whole.
fn content(line: &[u8]) -> Option<Value> {
    let (digits, rest) = line.split_at_checked(SUM_DIGITS)?;
    let text = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let expected = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    let step = |sum: u64, &byte: &u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let sum = text.iter().fold(0xcbf2_9ce4_8422_2325, step);
    if sum == expected { serde_json::from_slice(text).ok() } else { None }
}

/// Keys and letters of all items in a whole document.
fn items_of(document: &Value) -> BTreeMap<u64, char> {
    let mut items = BTreeMap::new();
    let mut add = |list: &Value, letter: char| {
        let keys = list.as_array().into_iter().flatten();
        items.extend(keys.filter_map(|item| Some((item[PRIVATE]["key"].as_u64()?, letter))));
    };
    add(&document["handler"]["files"], 'l');
    add(&document["defaultLockspace"]["resources"], 'r');
    for space in document["lockspaces"].as_array().into_iter().flatten() {
        add(&space["resources"], 'r');
    }
    for (name, server) in document["daemon"]["servers"].as_object().into_iter().flatten() {
        if name != "admin" {
            add(&server["clients"], 'c');
        }
    }
    items
}
