//! Records in the fd store besides the journal: slots, marks, call marks, lines, keys, names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use common::fd_store::fuzzing::KeyAllocator;
use common::fd_store::names::{Kind, key_of};
use common::fd_store::pending_reply::PendingReply;
use common::fd_store::recovery::Mark;
use common::fd_store::slots::{AtRisk, KEY_MAX, Line, Slot, SlotFile};
use common::handover::document::Target;
use common::handover::text;
use common::rpc::program::ReplyTo;

use super::input::Input;

const KINDS: [Kind; 8] = [
    Kind::Log,
    Kind::Pipe,
    Kind::StagingOwners,
    Kind::Lease,
    Kind::Client,
    Kind::PendingReplies,
    Kind::Journal,
    Kind::Sentinel,
];

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 5 {
        0 => slots(&mut input),
        1 => damaged_slots(&mut input),
        2 => keys(&mut input),
        3 => names(&mut input),
        _ => texts(input.rest()),
    }
}

/// The last write is read, by this process or the next.
fn slots(input: &mut Input<'_>) {
    let mut file = SlotFile::new("slots").expect("a memfd");
    let stamp = file.stamp();
    let (mut marks, mut at_risk, mut lines) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    while !input.is_empty() {
        let key = key(input);
        let (is_valid, has_slot) = (key <= KEY_MAX, (1..=KEY_MAX).contains(&key));
        match input.byte() % 5 {
            0 => {
                let slot = slot(input);
                assert_eq!(file.set(key, slot).is_ok(), has_slot);
                has_slot.then(|| marks.insert(key, slot));
            }
            1 => {
                let at = AtRisk {
                    round: input.u32().max(1),
                    owner: input.u32(),
                    bytes: input.u64(),
                    target: target(input),
                };
                assert_eq!(file.set_at_risk(key, at).is_ok(), is_valid);
                is_valid.then(|| at_risk.insert(key, at));
            }
            2 => {
                let line = line(input);
                let is_valid = is_valid && line.text.len() <= 1024 - 48;
                assert_eq!(file.set_line(key, &line).is_ok(), is_valid);
                is_valid.then(|| lines.insert(key, line));
            }
            3 => file = SlotFile::from(file.as_fd().try_clone_to_owned().expect("an fd")),
            _ => {
                let expected = has_slot.then(|| marks.get(&key).copied().unwrap_or_default());
                assert_eq!(file.get(key).ok(), expected);
                assert_eq!(file.line(key).expect("a memfd"), lines.get(&key).cloned());
            }
        }
        assert_eq!(file.stamp(), stamp);
    }
    assert_eq!(BTreeMap::from_iter(file.at_risk().expect("a memfd")), at_risk);
}

/// Whatever is in the memfd, it can be read, within bounds.
fn damaged_slots(input: &mut Input<'_>) {
    let slots = SlotFile::new("slots").expect("a memfd");
    let file = File::from(slots.as_fd().try_clone_to_owned().expect("an fd"));
    let mut keys = vec![0, 1, KEY_MAX];
    while !input.is_empty() {
        let key = key(input).min(KEY_MAX);
        keys.push(key);
        let place = match input.byte() % 3 {
            0 => key * 16,
            1 => (KEY_MAX + 1) * 16 + key * 32,
            _ => (1 << 26) + key * 1024,
        };
        file.write_all_at(input.bytes(), place + u64::from(input.byte() % 64)).expect("room");
    }
    for key in keys {
        let slot = slots.get(key).unwrap_or_default();
        if let Some(line) = slots.line(key).expect("a memfd") {
            assert!(line.order != 0 && line.text.len() <= 1024);
        }
        let pending = PendingReply::from_slot(slot);
        assert_eq!(PendingReply::from_slot(pending.to_slot()), pending);
    }
    let at_risk = slots.at_risk().expect("a memfd");
    assert!(at_risk.iter().all(|(key, at_risk)| *key <= KEY_MAX && at_risk.round > 0));
}

/// No key is given twice, and none before the supervisor has removed its old item.
fn keys(input: &mut Input<'_>) {
    let used: BTreeSet<u64> = input.bytes().iter().map(|&byte| u64::from(byte)).collect();
    let mut allocator = KeyAllocator::beside(used.clone());
    let mut taken: BTreeSet<u64> = used.into_iter().filter(|&key| key > 0).collect();
    let mut returned = BTreeSet::new();
    while !input.is_empty() {
        let action = input.byte();
        match action % 3 {
            0 => {
                let key = allocator.take();
                assert!(key > 0 && taken.insert(key), "key {key} is in use");
                assert!(key <= (taken.len() + returned.len() + 256) as u64, "keys stay small");
            }
            1 => {
                let key = taken.iter().nth(usize::from(action) % taken.len().max(1)).copied();
                // It stays taken until the supervisor has removed its item.
                key.filter(|key| returned.insert(*key)).into_iter().for_each(|key| {
                    allocator.give_back(key);
                });
            }
            _ => {
                let now: Vec<_> = returned.iter().copied().take(usize::from(action % 4)).collect();
                allocator.make_available(now.iter().copied().chain([u64::from(action)]));
                for key in now.into_iter().chain([u64::from(action)]) {
                    if returned.remove(&key) {
                        taken.remove(&key);
                    }
                }
            }
        }
    }
}

/// A name has one meaning, and leads back to its key.
fn names(input: &mut Input<'_>) {
    let number = input.u64() >> (input.byte() % 64);
    for kind in KINDS {
        let name = kind.name(number);
        assert!(name.len() <= 18 && name.is_ascii());
        let is_accepted = number <= 1 << 48;
        for other in KINDS {
            assert_eq!(other.key(&name), (other == kind && is_accepted).then_some(number));
        }
        let is_numbered = matches!(kind, Kind::Journal | Kind::Sentinel);
        assert_eq!(key_of(&name), (!is_numbered && number <= KEY_MAX).then_some(number));
    }
    let text = String::from_utf8_lossy(input.rest());
    let known: Vec<_> = KINDS.iter().filter(|kind| kind.key(&text).is_some()).collect();
    assert!(known.len() <= 1);
    if let Some(key) = key_of(&text) {
        assert!(key <= KEY_MAX && known.len() == 1);
    }
}

fn texts(bytes: &[u8]) {
    assert_eq!(text::unhex(&text::hex(bytes)).as_deref(), Some(bytes));
    let hex = text::hex_unless_text(bytes);
    assert_eq!(&*text::bytes_of(hex.as_deref(), &text::text(bytes)), bytes);
    let name = text::name(bytes);
    assert!(bytes.starts_with(name) && name.len() <= text::NAME_BYTES_MAX);
    assert!(bytes.len() <= text::NAME_BYTES_MAX || name.len() > text::NAME_BYTES_MAX - 4);
    if str::from_utf8(bytes).is_ok() {
        str::from_utf8(name).expect("a text that is cut stays one");
    }
    let given = String::from_utf8_lossy(bytes);
    if let Some(uuid) = text::parse_uuid(&given) {
        assert_eq!(text::parse_uuid(&text::uuid(&uuid)), Some(uuid));
    }
    if let Some(unhexed) = text::unhex(&given) {
        assert_eq!(text::hex(&unhexed), given.to_ascii_lowercase());
    }
    let slot: Slot = std::array::from_fn(|index| bytes.get(index).copied().unwrap_or(0));
    let pending = PendingReply::from_slot(slot);
    assert_eq!(PendingReply::from_slot(pending.to_slot()), pending);
    if let PendingReply::Answer(reply_to) = pending {
        assert_eq!(ReplyTo::from_words(reply_to.to_words()), reply_to);
    }
}

fn key(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        255 => KEY_MAX,
        254 => KEY_MAX + 1,
        253 => u64::MAX,
        252 => input.u64(),
        key => 1 + u64::from(key),
    }
}

fn slot(input: &mut Input<'_>) -> Slot {
    match input.flag() {
        true => Mark { owner: input.u64(), order: input.u64() }.to_bytes(),
        false => std::array::from_fn(|_| input.byte()),
    }
}

fn target(input: &mut Input<'_>) -> Option<Target> {
    input.flag().then(|| Target { inode: input.u64().max(1), size_bytes: input.u64() })
}

fn line(input: &mut Input<'_>) -> Line {
    Line {
        order: input.u64().max(1),
        pipe_inode: input.u64(),
        target: Target { inode: input.u64(), size_bytes: input.u64() },
        left_bytes: input.u64(),
        text: input.bytes().repeat(1 + usize::from(input.byte() % 6)),
    }
}
