//! Selection of the files to delete in one directory; without I/O and without a clock.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use common::sys::file_id::FileId;

/// Chains of one directory that a pass remembers; ours. With 100 bytes a name and four parts a
/// chain that is some 40 MiB at worst, for the time of the pass.
const CHAINS_MAX: usize = 65_536;

/// Rules of deletion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// A chain whose newest part is of this time, or older, is deleted. Seconds since 1970.
    pub(super) oldest_mtime_s: i64,
    /// A part with a higher number is deleted at once.
    pub(super) backups_max: u64,
}

/// A file whose name is that of a log or of a part of one.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: OsString,
    /// Name of the chain's log.
    pub(super) head: OsString,
    /// Number of the part; the log itself has none.
    pub(super) number: Option<u64>,
    pub(super) seen: Seen,
    /// The entry, or the chain that it belongs to, is an open log.
    pub(super) is_open: bool,
}

/// Status of a file when it was looked at. If it is the same later, the file has not become a log,
/// or been written to, in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: FileId,
    pub(super) mtime_s: i64,
}

/// Files of one chain to delete.
#[derive(Debug)]
pub(super) struct Condemned {
    /// Name of the chain's log.
    pub(super) head: OsString,
    /// Status of that log, if it was there.
    pub(super) head_seen: Option<Seen>,
    /// Names in the order in which they are to be deleted: the log comes last.
    pub(super) parts: Vec<(OsString, Seen)>,
}

/// The chains of one directory, by head.
#[derive(Debug, Default)]
pub(super) struct Chains(HashMap<OsString, Chain>);

#[derive(Debug, Default)]
struct Chain {
    parts: Vec<Part>,
    is_open: bool,
}

#[derive(Debug)]
struct Part {
    name: OsString,
    number: Option<u64>,
    seen: Seen,
}

impl Chains {
    /// Adds an entry. A new chain beyond [`CHAINS_MAX`] is refused; the known ones stay whole.
    pub(super) fn add(&mut self, entry: Entry) -> bool {
        let is_full = self.0.len() >= CHAINS_MAX;
        let chain = match self.0.entry(entry.head) {
            Occupied(known) => known.into_mut(),
            Vacant(_) if is_full => return false,
            Vacant(new) => new.insert(Chain::default()),
        };
        chain.is_open |= entry.is_open;
        let Entry { name, number, seen, .. } = entry;
        chain.parts.push(Part { name, number, seen });
        true
    }

    /// Returns the files to delete, by the rules for the log of this name.
    pub(super) fn condemned(
        self,
        policy_of: impl Fn(&OsStr) -> Policy,
    ) -> impl Iterator<Item = Condemned> {
        let closed = self.0.into_iter().filter(|(_, chain)| !chain.is_open);
        closed.map(move |(head, chain)| {
            let policy = policy_of(&head);
            chain.condemned(head, policy)
        })
    }
}

impl Chain {
    /// Selects the parts to delete. Those with too high a number do not keep the others alive.
    fn condemned(mut self, head: OsString, policy: Policy) -> Condemned {
        self.parts.sort_unstable_by_key(|part| Reverse(part.number));
        let is_surplus = move |part: &Part| part.number > Some(policy.backups_max);
        let counting = self.parts.iter().filter(|part| !is_surplus(part));
        let newest = counting.map(|part| part.seen.mtime_s).max();
        let is_old = newest.is_some_and(|mtime_s| mtime_s <= policy.oldest_mtime_s);
        let goes = move |part: &Part| is_old || is_surplus(part);
        let is_head = |part: &&Part| part.number.is_none();
        let head_seen = self.parts.iter().find(is_head).map(|part| part.seen);
        let parts = self.parts.into_iter().filter(goes).map(|part| (part.name, part.seen));
        Condemned { head, head_seen, parts: parts.collect() }
    }
}

/// Splits NAME.log and NAME.log.N; anything else is no log.
pub(super) fn head_and_number(name: &OsStr) -> Option<(OsString, Option<u64>)> {
    const ENDING: &[u8] = b".log";
    let bytes = name.as_bytes();
    if bytes.ends_with(ENDING) {
        return Some((name.to_owned(), None));
    }
    let dot = bytes.iter().rposition(|&byte| byte == b'.')?;
    let (head, digits) = (bytes.get(..dot)?, bytes.get(dot + 1..)?);
    if !head.ends_with(ENDING) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    Some((OsString::from_vec(head.to_vec()), Some(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { oldest_mtime_s: 100, backups_max: 2 };

    fn seen(mtime_s: i64) -> Seen {
        Seen { id: FileId { device: 1, number: 1 }, mtime_s }
    }

    fn chains(entries: &[(&str, i64, bool)]) -> Chains {
        let mut chains = Chains::default();
        for &(name, mtime_s, is_open) in entries {
            let (head, number) = head_and_number(name.as_ref()).unwrap();
            let entry = Entry { name: name.into(), head, number, seen: seen(mtime_s), is_open };
            assert!(chains.add(entry));
        }
        chains
    }

    /// Adds `(name, mtime, is open)` and returns what goes, sorted.
    fn condemned(entries: &[(&str, i64, bool)]) -> Vec<String> {
        let condemned = chains(entries).condemned(|_| POLICY);
        let parts = condemned.flat_map(|condemned| condemned.parts);
        let mut names: Vec<_> = parts.map(|(name, _)| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_log_goes_behind_its_parts() {
        let entries = [("a.log.1", 1, false), ("a.log", 9, false), ("a.log.2", 1, false)];
        let condemned: Vec<_> = chains(&entries).condemned(|_| POLICY).collect();
        let [Condemned { head, head_seen, parts }] = &condemned[..] else { panic!() };
        assert_eq!((head.to_str(), *head_seen), (Some("a.log"), Some(seen(9))));
        let names: Vec<_> = parts.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["a.log.2", "a.log.1", "a.log"]);
    }

    #[test]
    fn a_chain_goes_whole_or_not_at_all() {
        assert_eq!(
            condemned(&[("a.log", 100, false), ("a.log.0", 1, false)]),
            ["a.log", "a.log.0"]
        );
        assert!(condemned(&[("a.log", 101, false), ("a.log.0", 1, false)]).is_empty());
        assert!(condemned(&[("a.log", 1, false), ("a.log.1", 101, false)]).is_empty());
        assert_eq!(condemned(&[("a.log.1", 100, false), ("b.log.1", 101, false)]), ["a.log.1"]);
    }

    #[test]
    fn a_part_beyond_the_number_kept_goes_at_once() {
        let parts = [("a.log", 101, false), ("a.log.2", 101, false), ("a.log.3", 101, false)];
        assert_eq!(condemned(&parts), ["a.log.3"]);
    }

    #[test]
    fn a_part_beyond_the_number_kept_keeps_nothing_alive() {
        assert_eq!(
            condemned(&[("a.log", 1, false), ("a.log.3", 101, false)]),
            ["a.log", "a.log.3"]
        );
    }

    #[test]
    fn nothing_of_an_open_chain_goes() {
        assert!(condemned(&[("a.log.9", 1, false), ("a.log", 1, true)]).is_empty());
    }

    #[test]
    fn what_a_log_is_called() {
        let parse = |name: &str| {
            head_and_number(name.as_ref())
                .map(|(head, number)| (head.into_string().unwrap(), number))
        };
        assert_eq!(parse("a.log"), Some(("a.log".into(), None)));
        assert_eq!(parse("a.log.12"), Some(("a.log".into(), Some(12))));
        assert_eq!(parse("a.log.1.log"), Some(("a.log.1.log".into(), None)));
        assert_eq!(parse("a.log.log.007"), Some(("a.log.log".into(), Some(7))));
        assert_eq!(parse(".log"), Some((".log".into(), None)));
        let too_large = "a.log.99999999999999999999";
        for name in ["a", "log", "a.log.", "a.log.x", "a.log.1.2", "a.log.+1", "a.1", too_large] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn known_chains_stay_whole_when_there_are_too_many() {
        let mut chains = Chains::default();
        let mut add = |head: String, number: Option<u64>, mtime_s| {
            let name = OsString::from(format!("{head}{}", number.map_or("", |_| ".0")));
            let head = head.into();
            chains.add(Entry { name, head, number, seen: seen(mtime_s), is_open: false })
        };
        for index in 0..CHAINS_MAX {
            assert!(add(format!("{index}.log"), None, 1));
        }
        assert!(!add("one-more.log".into(), None, 1));
        assert!(add("0.log".into(), Some(0), 101));
        let goes = |condemned: &Condemned| !condemned.parts.is_empty();
        assert_eq!(chains.condemned(|_| POLICY).filter(goes).count(), CHAINS_MAX - 1);
    }
}
