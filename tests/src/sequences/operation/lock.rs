//! Calls of the lock program.

use super::{GUEST_CLIENTS, GUESTS, MAIN_CLIENTS, Scene};
use crate::random::Random;
use crate::sequences::message::{Message, Piece};
use crate::wire::{LOCK_PROGRAM, Writer};

const REGISTER: i32 = 1;
const RESTRICT: i32 = 2;
const NEW: i32 = 3;
const CREATE_RESOURCE: i32 = 4;
const DELETE_RESOURCE: i32 = 5;
pub(in crate::sequences) const ACQUIRE: i32 = 6;
const RELEASE: i32 = 7;
const CREATE_LOCKSPACE: i32 = 8;

/// A pid that no process has.
const DEAD_PID: u32 = 4_194_303;

/// Pids that are no guest's.
pub(in crate::sequences) const ODD_PIDS: &[u32] = &[0, DEAD_PID, u32::MAX];

/// Names of resources in a sequence's directory.
const NAMES: &[(&str, usize)] = &[
    ("a", 45),
    ("b", 25),
    ("c", 8),
    ("n", 6),
    ("./a", 2),
    ("/a", 1),
    ("d/../b", 1),
    ("link", 3),
    ("hard", 3),
    ("dangling", 1),
    ("loop", 1),
    ("d", 2),
    ("missing/a", 1),
    ("a/b", 1),
    ("null", 1),
    ("space/a", 2),
];

/// Names of lockspaces in a sequence's directory.
const SPACES: &[(&str, usize)] =
    &[("space", 50), ("space/", 6), ("new", 20), ("deep/er", 6), ("a", 4), ("a/b", 2), ("d", 6)];

/// A call and who makes it.
pub(super) fn call(random: &mut Random, scene: &Scene) -> (usize, Message) {
    let client =
        if random.chance(2) { random.of(&GUEST_CLIENTS) } else { random.below(MAIN_CLIENTS) };
    let message = match random.below(100) {
        0..22 => register(random, client),
        22..24 => restrict(random),
        24..30 => lockspace(random, scene),
        30..36 => resource(random, scene, ("CREATE", CREATE_RESOURCE), &[(0, 95), (1, 5)]),
        36..42 => resource(random, scene, ("DELETE", DELETE_RESOURCE), &[(0, 95), (1, 5)]),
        42..74 => {
            let flags = &[(0, 46), (1, 26), (2, 12), (3, 12), (4, 2), (u32::MAX, 2)];
            resource(random, scene, ("ACQUIRE", ACQUIRE), flags)
        }
        _ => resource(random, scene, ("RELEASE", RELEASE), &[(0, 97), (1, 3)]),
    };
    (client, message)
}

pub(super) fn register(random: &mut Random, client: usize) -> Message {
    let guest = client % GUESTS;
    let (who, pid) = match random.below(100) {
        0..80 => (format!("guest {guest}"), Piece::Pid(guest)),
        80..95 => (format!("guest {}", 1 - guest), Piece::Pid(1 - guest)),
        95..97 => ("pid 0".to_owned(), Writer::new().u32(0).into()),
        97..99 => ("a dead pid".to_owned(), Writer::new().u32(DEAD_PID).into()),
        _ => ("pid -1".to_owned(), Writer::new().u32(u32::MAX).into()),
    };
    let id = random.weighted(&[(1, 94), (0, 4), (u32::MAX, 2)]);
    let flags = random.weighted(&[(0, 97), (1, 3)]);
    let name: &[u8] = random.of(&[&b"guest"[..], b"guest", b"", b"\xff"]);
    let before = Writer::new().fixed(&[0x5a; 16]).string(name).u32(id);
    let said = format!("REGISTER {who} id {id} flags {flags}");
    let arguments = vec![before.into(), pid, Writer::new().u32(flags).into()];
    Message::new(said, LOCK_PROGRAM, REGISTER, arguments)
}

fn restrict(random: &mut Random) -> Message {
    let flags = random.weighted(&[(0, 70), (1, 30)]);
    let arguments = vec![Writer::new().u32(flags).into()];
    Message::new(format!("RESTRICT flags {flags}"), LOCK_PROGRAM, RESTRICT, arguments)
}

fn lockspace(random: &mut Random, scene: &Scene) -> Message {
    let space = space(random, scene);
    if random.chance(70) {
        let said = format!("CREATE_LOCKSPACE {space}");
        let arguments = vec![Writer::new().string(&space).into()];
        return Message::new(said, LOCK_PROGRAM, CREATE_LOCKSPACE, arguments);
    }
    let flags = random.weighted(&[(0, 90), (1, 10)]);
    let said = format!("NEW {space} flags {flags}");
    Message::new(said, LOCK_PROGRAM, NEW, vec![Writer::new().string(&space).u32(flags).into()])
}

fn resource(
    random: &mut Random,
    scene: &Scene,
    (word, procedure): (&str, i32),
    flags: &[(u32, usize)],
) -> Message {
    let flags = random.weighted(flags);
    let (space, name) = if random.chance(82) {
        (String::new(), name(random, scene))
    } else {
        let space = space(random, scene);
        (space, random.of(&["a", "a", "b", "../a", "x/y", "", "."]).as_bytes().to_vec())
    };
    let said = format!("{word} '{space}' {} flags {flags:#x}", shown(&name));
    let arguments = Writer::new().string(&space).string(&name).u32(flags);
    Message::new(said, LOCK_PROGRAM, procedure, vec![arguments.into()])
}

fn name(random: &mut Random, scene: &Scene) -> Vec<u8> {
    let directory = &scene.directory;
    match random.below(100) {
        0..96 => format!("{directory}/{}", random.weighted(NAMES)).into_bytes(),
        96 => format!("{directory}/b\0c").into_bytes(),
        97 => [directory.as_bytes(), b"/\xff\xfe"].concat(),
        98 => {
            let length = random.of(&[255, 256, 5_000, 65_536, 65_537]);
            format!("{directory}/{}", "n".repeat(length - 11)).into_bytes()
        }
        _ => format!("..{directory}/a").into_bytes(),
    }
}

fn space(random: &mut Random, scene: &Scene) -> String {
    if random.chance(8) {
        return String::new();
    }
    format!("{}/{}", scene.directory, random.weighted(SPACES))
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(100)]).escape_default().to_string()
}
