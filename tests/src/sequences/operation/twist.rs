//! Messages made wrong, a little or wildly.

use crate::random::Random;
use crate::sequences::message::{HeaderWord, Message, Piece, Twist};
use crate::wire::{ADMIN_PROGRAM, KEEPALIVE_PROGRAM, LOCK_PROGRAM, LOG_PROGRAM};

/// Largest length word that is accepted.
const LENGTH_WORD_MAX: u32 = 33_554_436;

pub(super) fn twist(mut message: Message, random: &mut Random) -> Message {
    message.twist = match random.below(100) {
        0..35 => header(random),
        35..50 => Twist::Cut(random.below(60)),
        50..56 => Twist::Extra(random.of(&[1, 4, 8, 100])),
        56..68 => length(random),
        68..84 => {
            // What is read as something else then must be the same for both.
            message.arguments.iter_mut().for_each(Piece::make_common);
            Twist::Word(random.below(16), word(random))
        }
        _ => fds(random),
    };
    message.said += &format!(" {:x?}", message.twist);
    message
}

fn header(random: &mut Random) -> Twist {
    let which = random.of(HeaderWord::ALL);
    let value = match which {
        HeaderWord::Program => {
            let programs =
                [LOG_PROGRAM, LOCK_PROGRAM, ADMIN_PROGRAM, KEEPALIVE_PROGRAM, 0, 0x2000_8086];
            random.of(&programs)
        }
        HeaderWord::Version => random.of(&[0, 2, u32::MAX]),
        HeaderWord::Procedure => random.of(&[0, 5, 9, 20, 66, 1 << 31, u32::MAX]),
        HeaderWord::Kind => random.of(&[1, 2, 3, 5, 6, 7, 9, u32::MAX]),
        HeaderWord::Serial => random.of(&[0, 7, u32::MAX]),
        HeaderWord::Status => random.of(&[1, 2, 3, u32::MAX]),
    };
    Twist::Header(which, value)
}

fn length(random: &mut Random) -> Twist {
    Twist::Length(match random.below(100) {
        0..30 => u32::try_from(random.below(28)).expect("a small number"),
        30..50 => 28 + u32::try_from(random.below(400)).expect("a small number"),
        _ => random.of(&[28, 29, LENGTH_WORD_MAX, LENGTH_WORD_MAX + 1, 1 << 31, u32::MAX]),
    })
}

fn word(random: &mut Random) -> u32 {
    random.of(&[0, 1, 2, 3, 5, 255, 4_194_304, 4_194_305, 65_536, 65_537, 1 << 31, u32::MAX])
}

fn fds(random: &mut Random) -> Twist {
    match random.below(100) {
        0..50 => {
            let count = random.weighted(&[(1, 5), (2, 2), (32, 1)]);
            Twist::Fds(count, vec![1; usize::try_from(count).expect("a small number")])
        }
        50..65 => Twist::Fds(0, Vec::new()),
        65..75 => Twist::Fds(33, vec![1; 33]),
        75..85 => Twist::Fds(2, vec![1]),
        85..92 => Twist::Fds(1, vec![0]),
        _ => Twist::Fds(2, vec![2]),
    }
}
