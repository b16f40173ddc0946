//! Calls of the admin program.

use super::Scene;
use crate::random::Random;
use crate::sequences::message::{Message, Piece};
use crate::wire::{ADMIN_PROGRAM, Writer};

/// Begin of a procedure's arguments.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Flags alone.
    Flags,
    /// Nothing at all.
    Nothing,
    /// Whether results are wanted.
    Results,
    /// A server.
    Server,
    /// A server, and whether results are wanted.
    ServerResults,
    /// A server and parameters.
    Parameters(&'static [&'static str]),
    /// A server and a client's id.
    ServerId,
    /// A client.
    Client,
    /// A text, which may be absent.
    Text(&'static [&'static str]),
    /// A number of seconds.
    Seconds,
}

const POOL: &[&str] = &["minWorkers", "maxWorkers", "nWorkers", "freeWorkers", "no", ""];
const LIMITS: &[&str] =
    &["nclients_max", "nclients_unauth_max", "nclients", "nclients_unauth", "no"];
const OUTPUTS: &[&str] = &[
    "",
    "3:stderr",
    "4:stderr 3:stderr",
    "5:stderr",
    "stderr",
    "3:file",
    "1:nowhere",
    "3:syslog:x",
];
const FILTERS: &[&str] =
    &["", "1:*", "3:util", "4:a 3:b", "0:a", "x", "1:", "1:+x", "3:a:b", "9:q"];

/// Name, number, arguments and how often.
const PROCEDURES: &[((&str, i32, Shape), usize)] = &[
    (("OPEN", 1, Shape::Flags), 4),
    (("CLOSE", 2, Shape::Nothing), 3),
    (("LIB_VERSION", 3, Shape::Nothing), 3),
    (("LIST_SERVERS", 4, Shape::Results), 5),
    (("LOOKUP_SERVER", 5, Shape::Server), 6),
    (("GET_POOL", 6, Shape::Server), 8),
    (("SET_POOL", 7, Shape::Parameters(POOL)), 14),
    (("LIST_CLIENTS", 8, Shape::ServerResults), 10),
    (("LOOKUP_CLIENT", 9, Shape::ServerId), 6),
    (("CLIENT_INFO", 10, Shape::Client), 6),
    (("CLIENT_CLOSE", 11, Shape::Client), 5),
    (("GET_LIMITS", 12, Shape::Server), 8),
    (("SET_LIMITS", 13, Shape::Parameters(LIMITS)), 14),
    (("GET_OUTPUTS", 14, Shape::Flags), 4),
    (("GET_FILTERS", 15, Shape::Flags), 4),
    (("SET_OUTPUTS", 16, Shape::Text(OUTPUTS)), 6),
    (("SET_FILTERS", 17, Shape::Text(FILTERS)), 8),
    (("UPDATE_TLS", 18, Shape::Server), 3),
    (("SET_TIMEOUT", 19, Shape::Seconds), 3),
];

/// A call, mostly a valid one.
pub(super) fn call(random: &mut Random, scene: &Scene) -> Message {
    let (name, procedure, shape) = random.weighted(PROCEDURES);
    let mut said = format!("admin {name}");
    let mut arguments = shape.arguments(random, scene, &mut said);
    if !matches!(shape, Shape::Nothing) {
        let flags = random.weighted(&[(0, 94), (1, 4), (u32::MAX, 2)]);
        arguments.push(Writer::new().u32(flags).into());
        said += &format!(" flags {flags:#x}");
    }
    Message::new(said, ADMIN_PROGRAM, procedure, arguments)
}

impl Shape {
    fn arguments(self, random: &mut Random, scene: &Scene, said: &mut String) -> Vec<Piece> {
        let writer = Writer::new();
        let writer = match self {
            Self::Flags | Self::Nothing => writer,
            Self::Results => writer.u32(results(random)),
            Self::Server => server(random, scene, said),
            Self::ServerResults => server(random, scene, said).u32(results(random)),
            Self::ServerId => return vec![server(random, scene, said).into(), id(random, said)],
            Self::Client => {
                let server = server(random, scene, said).into();
                return vec![server, id(random, said), Writer::new().u64(0).u32(0).into()];
            }
            Self::Parameters(names) => parameters(random, scene, names, said),
            Self::Text(texts) => text(random, texts, said),
            Self::Seconds => writer.u32(random.of(&[0, 1, 120, 4_294_967, 4_294_968, u32::MAX])),
        };
        vec![writer.into()]
    }
}

fn text(random: &mut Random, texts: &[&str], said: &mut String) -> Writer {
    if random.chance(10) {
        *said += " none";
        return Writer::new().u32(0);
    }
    let text = random.of(texts);
    *said += &format!(" '{text}'");
    Writer::new().u32(1).string(text)
}

fn results(random: &mut Random) -> u32 {
    random.weighted(&[(1, 80), (0, 15), (7, 5)])
}

fn server(random: &mut Random, scene: &Scene, said: &mut String) -> Writer {
    let main = scene.program.name();
    let name = random.weighted(&[(main, 60), ("admin", 34), ("no", 3), ("", 1), ("libvirtd", 2)]);
    *said += &format!(" {name}");
    Writer::new().string(name)
}

fn id(random: &mut Random, said: &mut String) -> Piece {
    if random.chance(10) {
        let id = random.of(&[0, 1 << 40, u64::MAX]);
        *said += &format!(" client {id}");
        return Writer::new().u64(id).into();
    }
    let (is_admin, before) = (random.chance(35), random.below(4) as u64);
    *said += &format!(" newest client but {before} of {is_admin}");
    Piece::Client { is_admin, before }
}

fn parameters(random: &mut Random, scene: &Scene, names: &[&str], said: &mut String) -> Writer {
    let count = random.weighted(&[(0, 1), (1, 5), (2, 8), (3, 1)]);
    let writer = server(random, scene, said).u32(count);
    (0..count).fold(writer, |writer, _| parameter(writer, random, names, said))
}

fn parameter(writer: Writer, random: &mut Random, names: &[&str], said: &mut String) -> Writer {
    const UINT: u32 = 2;
    let name = if random.chance(80) { random.of(&names[..2]) } else { random.of(names) };
    let writer = writer.string(name);
    if random.chance(10) {
        let kind = random.of(&[1, 3, 6, 7, 8]);
        *said += &format!(" {name} of type {kind}");
        return match kind {
            3 => writer.u32(kind).u64(5),
            7 => writer.u32(kind).string("5"),
            _ => writer.u32(kind).u32(1),
        };
    }
    let value = random.weighted(&[(0, 10), (5_000, 30), (1_024, 40), (100, 10), (u32::MAX, 10)]);
    *said += &format!(" {name} = {value}");
    writer.u32(UINT).u32(value)
}
