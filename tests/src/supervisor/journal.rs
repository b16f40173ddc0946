//! What a daemon's journal in the fd store says, read apart from the daemon's own code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use super::Stored;

/// The key under which everything of our own stands.
const PRIVATE: &str = "virt-rs";

/// Hexadecimal digits of a line's checksum.
const SUM_DIGITS: usize = 16;

/// What a journal says is in the store.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<String, Claim>);

/// What it says of one fd.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    /// A log's path or a lease's name; clients have none.
    path: String,
    /// Pids of a lease's owners.
    owners: Vec<u64>,
}

impl Claims {
    /// Names of fds, made of a letter and a key: logs `l`, leases `r`, clients `c`.
    pub fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Whether the fd of this name is said to be there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether it is said to be that of this log: an old journal may speak of another that had the
    /// same key.
    pub fn has_log(&self, name: &str, path: &Path) -> bool {
        self.0.get(name).is_some_and(|claim| Path::new(&claim.path) == path)
    }

    /// Whether it is said to be that of this owner's lease.
    pub fn has_lease(&self, name: &str, path: &Path, owner: u32) -> bool {
        let is_his = |claim: &Claim| claim.owners.contains(&owner.into());
        self.has_log(name, path) && self.0.get(name).is_some_and(is_his)
    }
}

/// What the newest complete journal claims; `None` when there is none.
pub fn claims(stored: &[Stored]) -> Option<Claims> {
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
            Some((field, letter)) => drop(items.insert(key, (letter, claim(&change[field])))),
            None => drop(items.remove(&key)),
        }
    }
    let named = items.into_iter();
    let named = named.map(|(key, (letter, claim))| (format!("{letter}{key:x}"), claim));
    Some(Claims(named.collect()))
}

/// A lease is alone in its lockspace in a change.
fn claim(item: &Value) -> Claim {
    let item = item["resources"].get(0).unwrap_or(item);
    let path = [&item["path"], &item["name"]].into_iter().find_map(Value::as_str);
    let owners = item["owners"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    Claim { path: path.unwrap_or_default().to_owned(), owners: owners.collect() }
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

/// Keys of all items in a whole document, with letters and what is said of them.
fn items_of(document: &Value) -> BTreeMap<u64, (char, Claim)> {
    let mut items = BTreeMap::new();
    let mut add = |list: &Value, letter: char| {
        let of = |item: &Value| Some((item[PRIVATE]["key"].as_u64()?, (letter, claim(item))));
        items.extend(list.as_array().into_iter().flatten().filter_map(of));
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
