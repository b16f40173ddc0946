//! Calls of the log program.

use super::Scene;
use crate::random::Random;
use crate::sequences::message::{Message, Piece};
use crate::wire::{LOG_PROGRAM, Writer};

const OPEN: i32 = 1;
const POSITION: i32 = 2;
const READ: i32 = 3;
const APPEND: i32 = 4;

/// Names of logs in a sequence's directory; those that are few are opened often.
const NAMES: &[(&str, usize)] = &[
    ("a", 50),
    ("b", 25),
    ("d/a", 4),
    ("a.0", 2),
    ("./a", 2),
    ("/b", 1),
    ("d/../a", 1),
    ("link", 4),
    ("dangling", 1),
    ("loop", 1),
    ("d", 2),
    ("d/", 1),
    ("missing/a", 1),
    ("a/b", 1),
    ("null", 2),
    ("", 1),
];

/// A call, mostly a valid one.
pub(super) fn call(random: &mut Random, scene: &Scene) -> Message {
    match random.below(100) {
        0..30 => open(random, scene),
        30..48 => position(random, scene),
        48..72 => read(random, scene),
        _ => append(random, scene),
    }
}

/// What a guest writes at once: seldom more than libvirt's daemon reads at once, because its cuts depend
/// on that.
pub(super) fn written(random: &mut Random) -> Vec<u8> {
    if random.chance(4) {
        let length = 1_025 + random.below(2_000);
        return text(random, length);
    }
    let length = if random.chance(70) { 100 } else { 1_024 };
    let length = 1 + random.below(length);
    text(random, length)
}

pub(super) fn open(random: &mut Random, scene: &Scene) -> Message {
    let path = path(random, scene);
    let flags = flags(random, &[(0, 60), (1, 30), (2, 5), (u32::MAX, 5)]);
    let arguments = domain(random).string(&path).u32(flags);
    let said = format!("OPEN {} flags {flags:#x}", shown(&path));
    Message::new(said, LOG_PROGRAM, OPEN, vec![arguments.into()])
}

fn position(random: &mut Random, scene: &Scene) -> Message {
    let path = path(random, scene);
    let flags = flags(random, &[(0, 95), (1, 4), (0x8000_0000, 1)]);
    let said = format!("GET_POSITION {} flags {flags:#x}", shown(&path));
    Message::new(said, LOG_PROGRAM, POSITION, vec![Writer::new().string(&path).u32(flags).into()])
}

fn read(random: &mut Random, scene: &Scene) -> Message {
    let path = path(random, scene);
    let inode = match random.below(100) {
        0..80 => Piece::Inode(random.of(&["a", "a", "b", "a.0", "a.1", "d/a", "b.0"]).to_owned()),
        80..90 => Writer::new().u64(0).into(),
        _ => Writer::new().u64(random.of(&[1, u64::MAX, 1 << 63])).into(),
    };
    let offset = match random.below(100) {
        0..50 => 0,
        50..90 => random.below(500) as u64,
        _ => random.of(&[1 << 20, 1 << 40, i64::MAX.cast_unsigned(), 1 << 63, u64::MAX]),
    };
    let length = match random.below(100) {
        0..60 => 4_194_304,
        60..90 => random.below(1_000) as u64,
        _ => random.of(&[0, 4_194_305, 1 << 32, u64::MAX]),
    };
    let flags = flags(random, &[(0, 96), (1, 4)]);
    let path_shown = shown(&path);
    let said = format!("READ {path_shown} {inode:?} offset {offset} length {length} flags {flags}");
    let rest = Writer::new().u64(offset).u64(length).u32(flags);
    let arguments = vec![Writer::new().string(&path).into(), inode, rest.into()];
    Message::new(said, LOG_PROGRAM, READ, arguments)
}

fn append(random: &mut Random, scene: &Scene) -> Message {
    let path = path(random, scene);
    let length = match random.below(100) {
        0..5 => 0,
        5..80 => random.below(100),
        80..95 => random.below(1_100),
        _ => random.below(6_000),
    };
    let mut message = text(random, length);
    if random.chance(4) && !message.is_empty() {
        let place = random.below(message.len());
        message[place] = 0;
    }
    let flags = flags(random, &[(0, 96), (1, 4)]);
    let said = format!("APPEND {} {} bytes flags {flags}", shown(&path), message.len());
    let arguments = domain(random).string(&path).string(&message).u32(flags);
    Message::new(said, LOG_PROGRAM, APPEND, vec![arguments.into()])
}

/// The driver, UUID and name that come before a path.
fn domain(random: &mut Random) -> Writer {
    let driver: &[u8] = random.of(&[&b"qemu"[..], b"qemu", b"qemu", b"", b"\xff\xfe", b"a\0b"]);
    let name: &[u8] = random.of(&[&b"guest"[..], b"guest", b"guest", b"", b"\xc3"]);
    Writer::new().string(driver).fixed(&[0xab; 16]).string(name)
}

fn path(random: &mut Random, scene: &Scene) -> Vec<u8> {
    let directory = &scene.directory;
    match random.below(100) {
        0..96 => format!("{directory}/{}", random.weighted(NAMES)).into_bytes(),
        96 => format!("{directory}/a\0b").into_bytes(),
        97 => [directory.as_bytes(), b"/\xff\xfe"].concat(),
        98 => format!("{directory}/{}", "n".repeat(random.of(&[255, 256, 5_000]))).into_bytes(),
        // From `/run`, where the daemons are.
        _ => format!("..{directory}/a").into_bytes(),
    }
}

fn flags(random: &mut Random, all: &[(u32, usize)]) -> u32 {
    random.weighted(all)
}

/// Lines, the last of which may be without its end.
fn text(random: &mut Random, length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length);
    let letter = b'a' + u8::try_from(random.below(26)).expect("a letter");
    let line = random.of(&[10, 30, 79, 80, 81, 200, 2_000]);
    while text.len() < length {
        text.push(if text.len() % line == line - 1 { b'\n' } else { letter });
    }
    if random.chance(80) && !text.is_empty() {
        text[length - 1] = b'\n';
    }
    text
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(100)]).escape_default().to_string()
}
