//! Changes of JSON documents that leave them JSON.

use serde_json::Value;

use crate::targets::inheritance;

/// A small generator: the seed is libFuzzer's.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % below.max(1)
    }
}

/// Returns a changed document; `None` where the bytes are none, or should be changed as bytes.
pub(crate) fn mutate(bytes: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut random = Random(seed.into());
    if random.next(16) == 0 {
        return None;
    }
    let mut document: Value = serde_json::from_slice(bytes).ok()?;
    for _ in 0..=random.next(3) {
        let donor = pick(&mut document, &mut random).clone();
        change(pick(&mut document, &mut random), donor, &mut random);
    }
    serde_json::to_vec(&document).ok()
}

/// Walks down from the top, at each level with some chance to stay.
fn pick<'a>(value: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let count = match &*value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if count == 0 || random.next(8) == 0 {
        return value;
    }
    let index = random.next(count);
    match value {
        Value::Array(items) => pick(&mut items[index], random),
        Value::Object(fields) => match fields.values_mut().nth(index) {
            Some(value) => pick(value, random),
            None => unreachable!("the index is below the number of fields"),
        },
        value => value,
    }
}

fn change(value: &mut Value, donor: Value, random: &mut Random) {
    let choice = random.next(6);
    match value {
        Value::Array(items) if choice < 2 && !items.is_empty() => {
            let copy = items[random.next(items.len())].clone();
            items.push(copy);
        }
        Value::Array(items) if choice == 2 => drop(items.pop()),
        Value::Array(items) if choice == 3 => items.push(donor),
        Value::Object(fields) if choice < 2 && !fields.is_empty() => {
            let key = fields.keys().nth(random.next(fields.len())).cloned();
            key.and_then(|key| fields.remove(&key));
        }
        Value::Object(fields) if choice == 2 && !fields.is_empty() => {
            let key = fields.keys().nth(random.next(fields.len())).cloned();
            fields.extend(key.map(|key| (key, donor)));
        }
        Value::Object(fields) if choice == 3 => {
            let key = KEYS[random.next(KEYS.len())];
            fields.insert(key.to_owned(), scalar(random));
        }
        Value::String(text) if choice < 3 => {
            let at = random.next(text.len() + 1);
            let piece = PIECES[random.next(PIECES.len())];
            if text.is_char_boundary(at) {
                text.insert_str(at, piece);
            }
        }
        value if choice == 4 => *value = donor,
        value => *value = scalar(random),
    }
}

fn scalar(random: &mut Random) -> Value {
    let fd = inheritance::FIRST + i32::try_from(random.next(inheritance::COUNT)).unwrap_or(0);
    let pid = std::process::id();
    match random.next(12) {
        0..=3 => fd.into(),
        4 => [Value::from(fd), (fd + 1).into()].into_iter().collect::<Vec<_>>().into(),
        5 => Value::from(random.next(5)),
        6 => [0_u64, 1 << 20, 1 << 32, u64::MAX, 1 << 60, 1 << 48][random.next(6)].into(),
        7 => Value::from(-1),
        8 => PIECES[random.next(PIECES.len())].into(),
        9 => Value::from(random.next(2) == 0),
        10 => pid.into(),
        _ => Value::Null,
    }
}

const PIECES: [&str; 10] = [
    "",
    "a",
    "/",
    "../",
    "ff",
    "é",
    "\u{0}",
    "\n",
    "/var/log/libvirt/qemu/a.log",
    "00000000-0000-0000-0000-000000000001",
];

/// Private keys, and some that few documents have.
const KEYS: [&str; 48] = [
    "virt-rs",
    "pipefd",
    "path",
    "driver",
    "domname",
    "domuuid",
    "staged",
    "staged_keys",
    "staged_bytes",
    "file",
    "unfinished_line",
    "line_target",
    "line_order",
    "loss",
    "reason",
    "in_writing",
    "rotation_steps_left",
    "directory",
    "pipe_bytes",
    "key",
    "after_crash",
    "bytes",
    "first_unix_us",
    "last_unix_us",
    "inode",
    "size_bytes",
    "holders",
    "owners",
    "endings",
    "process",
    "found",
    "number",
    "start",
    "namespace",
    "shares",
    "since_unix_s",
    "had_before",
    "is_own",
    "lock",
    "lacks",
    "parked",
    "owed",
    "input",
    "ahead",
    "output",
    "fds",
    "guest",
    "deadline_boot_ms",
];
